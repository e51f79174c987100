"""Write a report of a run: one page of settings, tables, curves and cases, which needs no other file.

It works while the run trains, and says what is not there yet. The networks are applied again to the best, the median
and the worst case only; the numbers are those of the run's last evaluation.
"""

import argparse
from pathlib import Path

from deepatlas_tf.view import add_option, turned

EXAMPLES = """\
  deepatlas report runs/hippo5
  deepatlas report runs/hippo5 -o hippo5.pdf
  deepatlas report runs/hippo5 -o report.html --overwrite --data-dir DATA
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a run, finished or not")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=".html or .pdf (needs fpdf2); default: RUN/report.html"
    )
    parser.add_argument(
        "--split", choices=["train", "validation", "test"], help="that was evaluated; default: whichever it was"
    )
    add_option(parser)
    parser.add_argument("--data-dir", type=Path, help="as for train")
    parser.add_argument("--manual-dir", type=Path, help="as for train")
    parser.add_argument("--overwrite", action="store_true", help="replace the report if it is there")


def run(args: argparse.Namespace) -> None:
    """Write it."""
    if args.output and args.output.suffix.lower() == ".pdf":
        from deepatlas_tf.report.pdf import check_installed  # before the seconds that TensorFlow takes to import

        check_installed()
    from deepatlas_tf.report.write import write_report  # TensorFlow takes seconds to import: not for --help

    data = {"data_dir": args.data_dir, "manual_dir": args.manual_dir}
    with turned(args.neurological):
        write_report(args.run_folder, args.output, split=args.split, overwrite=args.overwrite, **data)
