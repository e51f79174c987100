"""Writing the report of a run as HTML or PDF."""

from pathlib import Path

from deepatlas_tf.apply.files import check_outputs, writing
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.messages import say
from deepatlas_tf.report import pdf
from deepatlas_tf.report.content import missing, report_of
from deepatlas_tf.report.html import html_page
from deepatlas_tf.run import dataset_of_run
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.summary import RunSummary, read_run
from deepatlas_tf.types import DataError, SettingError


def write_report(
    workdir: Path,
    output: Path | None = None,
    *,
    split: str | None = None,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write the report of a run, finished or not.

    Args:
        workdir: folder of the run.
        output: file that ends in ``.html`` or ``.pdf``; None is ``report.html`` in the run's folder.
        split: that the run's evaluation has to be of; None for whichever it is of.
        data_dir, manual_dir: where the scans are, as for :func:`~deepatlas_tf.run.train`. Where they are not found, the
            report has no pictures of scans and says so.
        overwrite: replace ``output`` if it is there.

    Raises:
        SettingError: ``output`` has another ending, or the evaluation is of another split.
        DataError: ``workdir`` is not the folder of a run, or scans are not where ``data_dir`` or ``manual_dir`` says.
    """
    output = output or RunFolder(workdir).report_file
    kind = output.suffix.lower()
    if kind not in (".html", ".htm", ".pdf"):
        raise SettingError(f"-o {output}: the name of a report ends in .html or .pdf")
    if kind == ".pdf":
        pdf.check_installed()
    run = read_run(workdir)
    check_outputs([output], overwrite)
    dataset, no_data = _dataset(run, data_dir, manual_dir, needed=any((split, data_dir, manual_dir)))
    document = report_of(run, dataset, split, no_data)
    with writing(output) as temporary:
        if kind == ".pdf":
            temporary.write_bytes(pdf.pdf_file(document))
        else:
            temporary.write_text(html_page(document), encoding="utf-8")
    shown = "cases" if run.evaluated else "scans"
    for text in missing(run) + ([f"No pictures of {shown}: {no_data}"] if no_data and run.shows_scans else []):
        say(text)
    say(f"{output}: {_size(output)}")


def _dataset(
    run: RunSummary, data_dir: Path | None, manual_dir: Path | None, needed: bool
) -> tuple[DataSet | None, str]:
    """The data set, for pictures of scans; or None and why, so that a run can be read where its scans are not."""
    if not run.shows_scans:
        return None, "nothing is evaluated yet"
    try:
        return dataset_of_run(run.path, data_dir, manual_dir), ""
    except DataError as error:
        if needed:
            raise  # what was asked for is not there
        return None, str(error).splitlines()[0]


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
