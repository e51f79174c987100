"""Validation of a set of scans from beginning to end: what ``deepatlas data validate`` does."""

import dataclasses
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from deepatlas_tf.messages import progress
from deepatlas_tf.types import MissingDataError
from deepatlas_tf.validation import tfdv
from deepatlas_tf.validation.anomalies import ERROR, Finding, anomalies_proto, find, schema_findings
from deepatlas_tf.validation.files import save_proto, write_whole
from deepatlas_tf.validation.html import html_report, picture_order
from deepatlas_tf.validation.plan import plan
from deepatlas_tf.validation.readers import ScanSet, open_scans
from deepatlas_tf.validation.scan_summary import ScanSummary, collect
from deepatlas_tf.validation.schema import check_schema, infer_schema, load_schema
from deepatlas_tf.validation.statistics import Table, statistics, table
from deepatlas_tf.validation.text_report import class_names, text_report, write_subjects
from deepatlas_tf.validation.thumbnails import thumbnail


@dataclasses.dataclass(frozen=True)
class Validation:
    """What was found; the files are already in ``folder``. schema: the frozen one, or that of the subjects in order.

    plan: lines on what training would do with the scans.
    """

    scans: ScanSet
    folder: Path
    summaries: list[ScanSummary]
    rows: Table
    classes: list[str]
    findings: list[Finding]
    schema: schema_pb2.Schema
    stats: statistics_pb2.DatasetFeatureStatisticsList
    anomalies: anomalies_pb2.Anomalies
    report: str
    plan: list[str] = dataclasses.field(default_factory=list)

    @property
    def has_anomalies(self) -> bool:
        """Whether any error or warning was found."""
        return bool(self.anomalies.anomaly_info)

    @property
    def has_errors(self) -> bool:
        """Whether something was found that is wrong whatever was meant."""
        return any(finding.severity == ERROR for finding in self.findings)

    def write_html(self) -> Path:
        """``report.html``; the scans are read a second time for their pictures."""
        chosen = set(picture_order(self.summaries, self.findings))
        items = (item for item in enumerate(self.scans.items) if item[0] in chosen)
        bar = progress(items, total=len(chosen), desc="pictures", unit="scan")
        pictures = {i: thumbnail(self.scans.load(item), self.classes) for i, item in bar}
        page = html_report(self.scans.title, self.summaries, self.classes, self.findings, pictures, self.plan)
        path = self.folder / "report.html"
        write_whole(path, page)
        return path

    def write_tfdv(self) -> Path:
        """``tfdv/``: statistics, schema and anomalies (against this schema) by TensorFlow Data Validation."""
        folder = self.folder / "tfdv"
        folder.mkdir(parents=True, exist_ok=True)
        stats = tfdv.statistics(tfdv.write_examples(folder / "subjects.tfrecord", self.rows))
        save_proto(folder / "stats.pbtxt", stats)
        save_proto(folder / "schema.pbtxt", tfdv.infer_schema(stats))
        save_proto(folder / "anomalies.pbtxt", tfdv.validate(stats, self.schema))
        return folder


def validate(
    text: str, folder: Path | None = None, schema_file: Path | None = None, **where: Path | None
) -> Validation:
    """Look at every scan of ``text`` (NAME, DIR or CSV) and write what was found to ``folder``.

    Args:
        text: see ``readers.open_scans``, which takes ``where`` (data_dir, manual_dir).
        folder: default ``validation/NAME``.
        schema_file: a frozen schema; without one, the schema is made of the subjects without an error.

    Raises:
        MissingDataError: there is nothing to validate, or no such schema. DataError: a list cannot be read.
    """
    frozen = load_schema(schema_file) if schema_file else None
    scans = open_scans(text, **where)
    folder = Path("validation") / scans.name if folder is None else folder
    bar = progress(collect(scans.items, scans.load), total=_length(scans.items), unit="scan")
    summaries = list(bar)
    if not summaries:
        raise MissingDataError(f"{scans.title}: there is no scan to validate")
    rows, names = table(summaries), class_names(summaries, scans.classes)
    findings = find(summaries, scans.classes, scans.training, scans.labels_file)
    findings += [Finding(doubt.kind, (), doubt.text) for doubt in scans.doubts]
    if scans.refused and not any(finding.severity == ERROR for finding in findings):
        findings = [Finding("cannot be trained", (), scans.refused), *findings]
    if frozen is None:
        schema = infer_schema(_in_order(summaries, rows, findings), scans.classes)
    else:
        schema = frozen
        findings = sorted(
            [*schema_findings(check_schema(rows, schema), summaries), *findings], key=lambda one: one.severity != ERROR
        )
    stats, anomalies = statistics(rows), anomalies_proto(findings, schema)
    lines = plan(scans, summaries, findings)
    report = text_report(scans.title, summaries, names, findings, lines)
    for name, proto in (("schema", schema), ("stats", stats), ("anomalies", anomalies)):
        save_proto(folder / f"{name}.pbtxt", proto)
    write_subjects(folder / "subjects.csv", summaries, rows)
    write_whole(folder / "report.txt", report + "\n")
    return Validation(scans, folder, summaries, rows, names, findings, schema, stats, anomalies, report, lines)


def _in_order(summaries: Sequence[ScanSummary], rows: Table, findings: Sequence[Finding]) -> Table:
    """The rows of the subjects without an error, so that a broken one does not widen what is allowed."""
    wrong = {name for finding in findings if finding.severity == ERROR for name in finding.subjects}
    return [row for one, row in zip(summaries, rows, strict=True) if one.subject not in wrong] or list(rows)


def _length(items: Iterable) -> int | None:
    return len(items) if isinstance(items, Sized) else None
