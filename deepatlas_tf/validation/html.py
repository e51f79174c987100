"""The report as one HTML page that needs no other file: findings, volumes of the classes, subjects with pictures."""

import base64
import html
from collections.abc import Mapping, Sequence

import matplotlib.colors
import numpy as np

from deepatlas_tf.validation.anomalies import ERROR, NOTE, WARNING, Finding
from deepatlas_tf.validation.scan_summary import ScanSummary
from deepatlas_tf.validation.text_report import MOST_CLASSES, class_rows, count, subject_rows, summed_up, verdict
from deepatlas_tf.validation.thumbnails import class_colour

MOST_PICTURES = 300  # a page of more takes too long to open; subjects with findings come first
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse } td, th { padding: 3px 9px; border-bottom: 1px solid #ddd; text-align: left;
vertical-align: top; font-variant-numeric: tabular-nums } th { background: #f4f4f4; position: sticky; top: 0 }
.error { color: #b00020 } .warning { color: #9a5b00 } .note { color: #555 } .found { background: #fff6e5 }
.scroll { overflow-x: auto } img { display: block; height: 120px } svg { vertical-align: middle }
"""


def picture_order(summaries: Sequence[ScanSummary], findings: Sequence[Finding]) -> list[int]:
    """Indices of the subjects that get a picture."""
    named = {subject for finding in findings if finding.severity != NOTE for subject in finding.subjects}
    order = sorted(range(len(summaries)), key=lambda i: summaries[i].subject not in named)
    return sorted(order[:MOST_PICTURES])


def html_report(
    title: str,
    summaries: Sequence[ScanSummary],
    names: Sequence[str],
    findings: Sequence[Finding],
    pictures: Mapping[int, bytes | None],
    plan: Sequence[str] = (),
) -> str:
    """The page. ``pictures``: PNG by index of the subject. ``plan``: lines on what training would do, for the top."""
    counts = f"{summed_up(summaries, names)}: {verdict(findings)}."
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in (counts, *plan)]
    for severity in (ERROR, WARNING, NOTE):
        group = [finding for finding in findings if finding.severity == severity]
        if group:
            lines = [f"<li><b>{html.escape(one.kind)}</b>: {html.escape(one.text)}</li>" for one in group]
            parts.append(f'<h2 class="{severity}">{count(findings, severity)}</h2><ul>{"".join(lines)}</ul>')
    if names:
        parts.append(f"<h2>Classes</h2>{_table(_with_strips(summaries, names))}")
    parts.append(
        "<h2>Subjects</h2><p>Shape and spacing in the order left-right, posterior-anterior, inferior-superior. "
        "Pictures: sagittal, coronal and axial slice; L and R are the patient's left and right.</p>"
    )
    if 0 < len(names) <= MOST_CLASSES:
        parts.append(f"<p>Outlines: {', '.join(map(_coloured, range(len(names)), names))}.</p>")
    parts.append(_table(_with_pictures(summaries, names, findings, pictures)))
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _coloured(index: int, name: str) -> str:
    colour = matplotlib.colors.to_hex(tuple(class_colour(index)))
    return f'<span style="background: {colour}; padding: 0 .5em"></span> {html.escape(name)}'


def _with_strips(summaries: Sequence[ScanSummary], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(CSS class, cells) of each row; cells are HTML."""
    heading, *rows = [[html.escape(cell) for cell in row] for row in class_rows(summaries, names)]
    volumes = [[one.held[name].volume_ml for one in summaries if name in one.held] for name in names]
    strips = [_strip(values) for values in volumes]
    marked = [("", [*row, strip]) for row, strip in zip(rows, strips, strict=True)]
    return [("", [*heading, "each label map, from a quarter of the median to four times it"]), *marked]


def _strip(values: Sequence[float]) -> str:
    """A dot a subject on a logarithmic axis, clipped at its ends."""
    if not values:
        return ""
    x = np.clip(np.log2(np.array(values) / np.median(values)), -2, 2) * 60 + 130
    dots = "".join(f'<circle cx="{value:.1f}" cy="8" r="3"/>' for value in x)
    line = '<line x1="10" x2="250" y1="8" y2="8" stroke="#ccc"/><line x1="130" x2="130" y1="2" y2="14" stroke="#888"/>'
    return f'<svg width="260" height="16">{line}<g fill="#0072b2" fill-opacity="0.45">{dots}</g></svg>'


def _with_pictures(
    summaries: Sequence[ScanSummary],
    names: Sequence[str],
    findings: Sequence[Finding],
    pictures: Mapping[int, bytes | None],
) -> list[tuple[str, list[str]]]:
    heading, *rows = [[html.escape(cell) for cell in row] for row in subject_rows(summaries, names)]
    found: dict[str, list[str]] = {}
    for finding in findings:
        for subject in finding.subjects if finding.severity != NOTE else ():
            found.setdefault(subject, []).append(f'<span class="{finding.severity}">{html.escape(finding.kind)}</span>')
    marked = [("", ["", "findings", *heading])]
    for i, (one, row) in enumerate(zip(summaries, rows, strict=True)):
        kinds = "<br>".join(dict.fromkeys(found.get(one.subject, [])))
        marked.append(("found" if kinds else "", [_picture(pictures.get(i)), kinds, *row]))
    return marked


def _picture(png: bytes | None) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">' if png else ""


def _table(rows: list[tuple[str, list[str]]]) -> str:
    (_, heading), *rest = rows
    head = "".join(f"<th>{cell}</th>" for cell in heading)
    body = "".join(f'<tr class="{kind}">{"".join(f"<td>{cell}</td>" for cell in row)}</tr>' for kind, row in rest)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
