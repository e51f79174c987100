"""The report on a set of scans, as text and as files beside the protos."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.validation.anomalies import ERROR, NOTE, WARNING, Finding
from deepatlas_tf.validation.files import write_whole
from deepatlas_tf.validation.outliers import counted, some
from deepatlas_tf.validation.scan_summary import ScanSummary, size_unit
from deepatlas_tf.validation.statistics import Table, feature_names

MOST_COLUMNS = 6  # classes that get a column of their own in the table of subjects
MOST_CLASSES = 40  # classes that are listed one by one


def class_names(summaries: Sequence[ScanSummary], declared: Sequence[str]) -> list[str]:
    """The declared classes, then others that occur, ``class_2`` before ``class_17``."""
    found = {name for one in summaries for name in one.held}
    return list(dict.fromkeys([*declared, *sorted(found, key=lambda name: (len(name), name))]))


def subject_rows(summaries: Sequence[ScanSummary], names: Sequence[str]) -> list[list[str]]:
    """A heading and a row for each subject: what the terminal and the page show of it."""
    splits, domains = any(one.split for one in summaries), any(one.domain for one in summaries)
    columns = names if len(names) <= MOST_COLUMNS else []
    unit, factor = size_unit(summaries)
    heading = ["subject", *["split"] * splits, *["domain"] * domains, "shape", "spacing mm", "axes"]
    heading += ["intensity: min", "0.5 %", "99.5 %", "max", *[f"{name} {unit}" for name in columns]]
    heading += [] if columns else ["classes", f"labelled {unit}"]
    rows = [[*heading, "missing classes"]]
    for one in summaries:
        row = [one.subject, *[one.split] * splits, *[one.domain] * domains]
        row += ["x".join(map(str, one.shape)) or "-", _sizes(one.spacing), one.orientation or "-"]
        row += [f"{one.intensity[name]:.5g}" if one.intensity else "-" for name in ("min", "low", "high", "max")]
        found = one.held
        if columns:
            row += [f"{factor * found[name].volume_ml:.3g}" if name in found else "-" for name in columns]
        else:
            total = factor * sum(structure.volume_ml for structure in found.values())
            row += [str(len(found)), f"{total:.4g}"] if one.structures is not None else ["-", "-"]
        rows.append([*row, _missing(one, names)])
    return rows


def _missing(one: ScanSummary, names: Sequence[str]) -> str:
    if one.structures is None:
        return "label map unusable" if one.has_label else "no label map"
    missing = [name for name in (one.expected or names) if name not in one.held]
    return f"{len(missing)}: {some(missing)}" if len(missing) > 3 else ", ".join(missing)


def class_rows(summaries: Sequence[ScanSummary], names: Sequence[str]) -> list[list[str]]:
    """A heading and a row for each class: volumes (of slices areas) and in how many label maps it is."""
    unit, factor = size_unit(summaries)
    maps = [one for one in summaries if one.structures is not None]
    rows = [["class", "label maps", f"median {unit}", f"least {unit}", f"largest {unit}"]]
    for name in names:
        sizes = [factor * one.held[name].volume_ml for one in maps if name in one.held]
        asked = sum(one.expected is None or name in one.expected for one in maps)
        figures = [f"{value:.3g}" for value in (np.median(sizes), min(sizes), max(sizes))] if sizes else ["-"] * 3
        rows.append([name, f"{len(sizes)} of {asked}", *figures])
    return rows


def text_report(
    title: str,
    summaries: Sequence[ScanSummary],
    names: Sequence[str],
    findings: Sequence[Finding],
    plan: Sequence[str] = (),
) -> str:
    """The whole report: subjects, classes, findings with the most severe ones last, where a terminal shows them.

    ``plan``: lines on what training would do, for the top.
    """
    parts = ["\n".join([f"{title}: {summed_up(summaries, names)}", *plan])]
    parts.append(_aligned(subject_rows(summaries, names)))
    if 0 < len(names) <= MOST_CLASSES:
        parts.append(_aligned(class_rows(summaries, names)))
    elif names:
        parts.append(f"volumes of the {len(names)} classes: subjects.csv")
    for severity in (NOTE, WARNING, ERROR):
        group = [finding for finding in findings if finding.severity == severity]
        if group:
            lines = [f"  {finding.kind}: {finding.text}" for finding in group]
            parts.append("\n".join([count(findings, severity), *lines]))
    return "\n\n".join([*parts, verdict(findings)])


def summed_up(summaries: Sequence[ScanSummary], names: Sequence[str]) -> str:
    """``8 subjects, 5 with a label map, 3 classes``"""
    labelled = sum(one.has_label for one in summaries)
    return f"{counted(len(summaries), 'subject')}, {labelled} with a label map, {counted(len(names), 'class')}"


def verdict(findings: Sequence[Finding]) -> str:
    """One line: nothing found, or how many errors and warnings."""
    counts = [count(findings, severity) for severity in (ERROR, WARNING)]
    counts = [text for text in counts if not text.startswith("0")]
    return " and ".join(counts) if counts else "no anomalies"


def count(findings: Sequence[Finding], severity: str) -> str:
    """``1 error``, ``3 warnings``"""
    return counted(sum(finding.severity == severity for finding in findings), severity)


def write_subjects(path: Path, summaries: Sequence[ScanSummary], rows: Table) -> None:
    """``subjects.csv``: every feature, the files and the digests, a line a subject."""
    names = feature_names(rows)
    names = [name for name in names if name != "labels"] + [name for name in names if name == "labels"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([*names, "image", "label", "image_sha256", "label_sha256"])
    for one, row in zip(summaries, rows, strict=True):
        cells = [";".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.get(n, [])) for n in names]
        writer.writerow([*cells, *one.files, one.image_digest, one.label_digest])
    write_whole(path, file.getvalue())


def _sizes(values: Iterable[float]) -> str:
    return "x".join(f"{value:.4g}" for value in values) or "-"


def _aligned(rows: list[list[str]]) -> str:
    """Columns under their headings: numbers to the right, text and the first column to the left."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [
        all(cell.replace(".", "").replace("e+", "").lstrip("-").isdigit() or cell == "-" for cell in column[1:])
        for column in columns
    ]
    right[0] = False
    lines = []
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        lines.append("  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in cells).rstrip())
    return "\n".join(lines)
