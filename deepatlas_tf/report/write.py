"""``deepatlas report``."""

from pathlib import Path

from deepatlas_tf.apply.files import check_outputs, writing
from deepatlas_tf.messages import say
from deepatlas_tf.report import pdf
from deepatlas_tf.report.content import missing, report_of
from deepatlas_tf.report.html import html_page
from deepatlas_tf.run import dataset_of
from deepatlas_tf.runs.summary import RunSummary, read_run
from deepatlas_tf.types import DataError, SettingError


def report(args) -> None:
    """Write the report. Takes the parsed options of the command."""
    output = args.output or args.run_folder / "report.html"
    kind = output.suffix.lower()
    if kind not in (".html", ".htm", ".pdf"):
        raise SettingError(f"-o {output}: the name of a report ends in .html or .pdf")
    if kind == ".pdf":
        pdf.check_installed()
    run = read_run(args.run_folder)
    check_outputs([output], args.overwrite)
    dataset, no_data = _dataset(run, args)
    document = report_of(run, dataset, args.split, no_data)
    with writing(output) as temporary:
        if kind == ".pdf":
            temporary.write_bytes(pdf.pdf_file(document))
        else:
            temporary.write_text(html_page(document), encoding="utf-8")
    for text in missing(run) + ([f"No pictures of cases: {no_data}"] if no_data and run.evaluated else []):
        say(text)
    say(f"{output}: {_size(output)}")


def _dataset(run: RunSummary, args):
    """The data set, for pictures of cases; or None and why, so that a run can be read where its scans are not."""
    if not run.evaluated:
        return None, "nothing is evaluated yet"
    try:
        return dataset_of(run.settings, args, args.run_folder), ""
    except DataError as error:
        if args.split or args.data_dir or args.manual_dir:
            raise  # what was asked for is not there
        return None, str(error).splitlines()[0]


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
