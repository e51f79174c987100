"""Find what is wrong with scans and label maps, before anything is built or trained.

Writes schema.pbtxt, stats.pbtxt and anomalies.pbtxt (TensorFlow Metadata), subjects.csv and report.txt, which begins
with what can be trained and measured. The exit status is 1 where an error was found, with --strict also where a warning
was, else 0; it is 2 where there is nothing to validate.
"""

import argparse
from pathlib import Path

from deepatlas_tf.view import add_option, turned

EXAMPLES = """\
  deepatlas data validate scans.csv --html
  deepatlas data validate Task04_Hippocampus -o checks/hippocampus
  deepatlas data validate scans_may.csv --schema checks/april/schema.pbtxt
  deepatlas data validate mindboggle101 --manual-dir DATA
  deepatlas data validate phantom_knee
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument(
        "source",
        metavar="NAME_OR_DIR_OR_CSV",
        help="a data set's name, a folder (nnU-Net's layout or just NIfTI files), or a CSV (subject,image,label,split)",
    )
    parser.add_argument("-o", "--output", type=Path, help="folder of the results; default: validation/NAME")
    parser.add_argument("--schema", type=Path, help="a frozen schema.pbtxt that the scans must fulfil")
    parser.add_argument("--strict", action="store_true", help="end with status 1 for warnings too")
    parser.add_argument("--html", action="store_true", help="write report.html too, with pictures of the scans")
    add_option(parser)
    parser.add_argument("--manual-dir", type=Path, help="with a NAME: its downloaded files, read before they are built")
    parser.add_argument("--data-dir", type=Path, help="with a NAME alone: where prepared data sets are kept")
    parser.add_argument("--tfdv", action="store_true", help="do it again with TensorFlow Data Validation, in tfdv/")


def run(args: argparse.Namespace) -> int:
    """The exit status."""
    from deepatlas_tf.validation import tfdv
    from deepatlas_tf.validation.validate import validate

    if args.tfdv:
        tfdv.package()  # missing: say so before an hour of reading, not after
    result = validate(args.source, args.output, args.schema, data_dir=args.data_dir, manual_dir=args.manual_dir)
    print(result.report)
    if args.html:
        with turned(args.neurological):
            result.write_html()
    if args.tfdv:
        result.write_tfdv()
    print(f"\nWritten to {result.folder}: {', '.join(sorted(path.name for path in result.folder.iterdir()))}")
    return 1 if result.has_errors or (args.strict and result.has_anomalies) else 0
