"""A document as a PDF on A4, with fpdf2."""

import io
from pathlib import Path
from typing import Any

import matplotlib

from deepatlas_tf.report.document import Block, Document, Folded, Heading, Paragraph, Picture, Table
from deepatlas_tf.types import SettingError

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # with the letters of most languages
MARGIN, LINE = 15, 5  # mm
MOST_OF_A_PAGE = 230  # mm, of a picture


def check_installed() -> None:
    """SettingError where fpdf2 is not installed."""
    try:
        import fpdf  # noqa: F401
    except ImportError:
        raise SettingError("a PDF needs fpdf2: pip install fpdf2, or write a page with -o report.html") from None


def pdf_file(document: Document) -> bytes:
    """The file's bytes. Of what is folded in a page the table comes at the end."""
    pdf = _empty(document.title)
    pdf.set_font("text", "B", 15)
    pdf.multi_cell(0, 7, document.title, new_x="LMARGIN", new_y="NEXT")
    folded = [block for block in document.blocks if isinstance(block, Folded)]
    for block in [block for block in document.blocks if not isinstance(block, Folded)] + folded:
        _add(pdf, block)
    return bytes(pdf.output())


def _empty(title: str) -> Any:
    from fpdf import FPDF

    class Pages(FPDF):
        def footer(self):
            self.set_y(-12)
            self.set_font("text", size=8)
            self.cell(0, LINE, f"{title}, page {self.page_no()}", align="C")

    pdf = Pages(format="A4")
    for style, name in (("", "DejaVuSans"), ("B", "DejaVuSans-Bold")):
        pdf.add_font("text", style, FONTS / f"{name}.ttf")
    pdf.set_margin(MARGIN)
    pdf.set_auto_page_break(True, MARGIN)
    pdf.set_title(title)
    pdf.set_lang("en")
    pdf.add_page()
    return pdf


def _add(pdf: Any, block: Block) -> None:
    if isinstance(block, Heading):
        _heading(pdf, block.text)
    elif isinstance(block, Paragraph):
        _text(pdf, block.text, style="B" if block.notice else "")
    elif isinstance(block, Table):
        _table(pdf, block)
    elif isinstance(block, Picture):
        _picture(pdf, block)
    else:
        _heading(pdf, block.title)
        _table(pdf, block.table)


def _heading(pdf: Any, text: str) -> None:
    if pdf.will_page_break(90):
        pdf.add_page()
    pdf.ln(4)
    pdf.start_section(text)
    _text(pdf, text, 12, "B")


def _text(pdf: Any, text: str, size: float = 9, style: str = "") -> None:
    pdf.set_font("text", style, size)
    pdf.multi_cell(0, LINE, text, new_x="LMARGIN", new_y="NEXT", align="L")
    pdf.ln(1)


def _table(pdf: Any, table: Table) -> None:
    if pdf.will_page_break(25):
        pdf.add_page()
    _text(pdf, table.title, 9, "B")
    size = 8 if len(table.rows[0]) <= 6 else 6.5
    pdf.set_font("text", size=size)
    longest = [3 + max(min(36, len(row[i])) for row in table.rows) for i in range(len(table.rows[0]))]
    with pdf.table(
        line_height=0.5 * size, col_widths=longest, text_align="LEFT", borders_layout="HORIZONTAL_LINES"
    ) as t:
        for row in table.rows:
            t.row(row)
    pdf.ln(1)
    if table.note:
        _text(pdf, table.note, 7.5)


def _picture(pdf: Any, picture: Picture) -> None:
    image = matplotlib.image.imread(io.BytesIO(picture.png))
    height, width = image.shape[:2]
    scale = min(pdf.epw / width, MOST_OF_A_PAGE / height, 25.4 / 150)  # not larger than at 150 dots an inch
    if pdf.will_page_break(height * scale + 2 * LINE):
        pdf.add_page()
    pdf.image(io.BytesIO(picture.png), w=width * scale, h=height * scale, alt_text=picture.text)
    _text(pdf, picture.text, 7.5)
