"""Find what is wrong with scans and label maps, before anything is built or trained.

Writes schema.pbtxt, stats.pbtxt and anomalies.pbtxt (TensorFlow Metadata), subjects.csv and report.txt, which begins
with what can be trained and measured. The exit status is 1 where an error was found, with --strict also where a warning
was, else 0; it is 2 where there is nothing to validate.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deepatlas_tf.view import add_option, turned

if TYPE_CHECKING:  # needs seconds to import
    from deepatlas_tf.validation.validate import Validation

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
    where = "folder of the results, which replace earlier ones in it; default: validation/NAME"
    parser.add_argument("-o", "--output", type=Path, help=where)
    parser.add_argument("--schema", type=Path, help="a frozen schema.pbtxt that the scans must fulfil")
    parser.add_argument("--strict", action="store_true", help="end with status 1 for warnings too")
    parser.add_argument(
        "--hours",
        action="store_true",
        help="of scans that can be trained, say on which grid and how long the default training takes on this machine: "
        "the scans are read once more, and a few updates of each kind are timed",
    )
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
    if args.hours:
        print(_default_training(result), end="\n\n")
    print(result.report)
    if args.html:
        with turned(args.neurological):
            result.write_html()
    if args.tfdv:
        result.write_tfdv()
    print(f"\nWritten to {result.folder}: {', '.join(sorted(path.name for path in result.folder.iterdir()))}")
    return 1 if result.has_errors or (args.strict and result.has_anomalies) else 0


def _default_training(result: "Validation") -> str:
    """A line on what training does where nothing else is set."""
    if result.scans.choose_grid is None or result.has_errors:
        return "--hours: not measured, since " + (
            "there are errors" if result.has_errors else "these are not own scans"
        )
    from deepatlas_tf.experiments import get_experiment
    from deepatlas_tf.messages import spoken_time
    from deepatlas_tf.training.estimate import STEPS, seconds_of_updates

    shape, spacing, n_classes = result.scans.choose_grid()
    experiment = get_experiment("nifti")
    seconds = seconds_of_updates(experiment, shape, n_classes, len(result.scans.channels))
    grid = f"{' x '.join(map(str, shape))} voxels of {' x '.join(f'{size:g}' for size in spacing)} mm"
    return (
        f"by default: a grid of {grid}, scans as they lie (alignment none), {len(experiment.stages)} stages; about "
        f"{spoken_time(seconds)} of updates on this machine ({STEPS} of each kind were timed), and validation"
    )
