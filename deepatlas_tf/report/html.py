"""A document as one HTML page that needs no other file and no network."""

import base64
from html import escape

from deepatlas_tf.report.document import Block, Document, Folded, Heading, Paragraph, Picture, Table

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 66rem; margin: 2rem auto;
padding: 0 1rem }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-top: 1px solid #ccc;
padding-top: 1rem }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem } a { color: #0b57a4 }
.scroll { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
thead th { border-bottom: 2px solid #888 } tbody th { font-weight: 400 } td.number, th.number { text-align: right }
td.number { white-space: nowrap }
.note, figcaption { color: #555; font-size: .88rem; max-width: 50rem }
.notice { background: #fff4d6; border-left: 4px solid #b97f00; padding: .5rem .8rem }
figure { margin: 1.2rem 0 } img { max-width: 100%; height: auto; display: block }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .82rem; line-height: 1.35 }
summary { cursor: pointer; color: #0b57a4 }
@media print { body { max-width: none; margin: 0; font-size: 10pt } nav, details { display: none }
table { font-size: 8pt }
figure, tr, .scroll, h2 { break-inside: avoid } h2, p:has(+ figure) { break-after: avoid }
.scroll { overflow: visible }
img { max-height: 24cm; object-fit: contain; object-position: left } a { color: inherit } }
"""


def html_page(document: Document) -> str:
    """The page; pictures are embedded."""
    headings = [block.text for block in document.blocks if isinstance(block, Heading)]
    links = "".join(f'<li><a href="#{_anchor(text)}">{escape(text)}</a></li>' for text in headings)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(document.title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join(_block(block) for block in document.blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main><h1>{escape(document.title)}</h1>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n{body}\n</main></body></html>\n'
    )


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f'<h2 id="{_anchor(block.text)}">{escape(block.text)}</h2>'
    if isinstance(block, Paragraph):
        notice = ' class="notice"' if block.notice else ""
        return f"<p{notice}>{escape(block.text)}</p>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        return _picture(block)
    assert isinstance(block, Folded)
    return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"


def _table(table: Table) -> str:
    heading, *rows = table.rows
    kinds = [' class="number"' if all(_is_number(row[i]) for row in rows) else "" for i in range(len(heading))]
    names = "".join(f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(heading, kinds, strict=True))
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    # a keyboard can scroll what it can reach
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(table.title)}"><table>'
        f"<caption>{escape(table.title)}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>{note}"
    )


def _picture(picture: Picture) -> str:
    source = base64.b64encode(picture.png).decode("ascii")
    text = escape(picture.text)
    return f'<figure><img src="data:image/png;base64,{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _anchor(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def _is_number(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "-+."
