"""Prepare a data set for training, here or with the workers of Apache Beam.

Training does this by itself where it has not been done. On its own it needs no GPU, and with Beam it takes many
machines: see docs/scale.md. Train afterwards with the same options, and nothing is prepared again.
"""

import argparse
from pathlib import Path

from deepatlas_tf.types import SettingError

EXAMPLES = """\
  deepatlas data prepare oai_knee --manual-dir DATA --data-dir PREPARED
  deepatlas data prepare oai_knee --manual-dir DATA --data-dir PREPARED \\
    --beam-options runner=DirectRunner,direct_num_workers=8,direct_running_mode=multi_processing
  deepatlas data prepare phantom_knee --set "data.shape=(96, 96, 96)" --set "data.spacing=(1.5, 1.5, 1.5)"
  deepatlas data prepare nifti --manual-dir scans.csv --data-dir PREPARED
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("dataset", metavar="NAME", help="a data set's name; nifti: your own scans")
    parser.add_argument("--manual-dir", type=Path, help="folder with the scans; default: DATA_DIR/downloads/manual")
    parser.add_argument("--data-dir", type=Path, help="where it is kept; default: ~/tensorflow_datasets")
    parser.add_argument(
        "--set", action="append", default=[], metavar="data.B=V", help="another shape, spacing, n_subjects, alignment"
    )
    parser.add_argument(
        "--beam-options", metavar="A=B,C=D", help="use Apache Beam (extra [beam]) with these options of its pipeline"
    )


def run(args: argparse.Namespace) -> None:
    """Prepare it, or find that it is."""
    from deepatlas_tf.datasets import beam, load
    from deepatlas_tf.experiments import get_experiment
    from deepatlas_tf.training.settings import set_value

    options = beam.pipeline_options(args.beam_options) if args.beam_options else None
    experiment = get_experiment(args.dataset)
    for assignment in args.set:
        experiment = set_value(experiment, assignment)
    data = experiment.data
    if data.dataset == "nifti":
        if not (args.manual_dir and args.data_dir):
            raise SettingError("nifti needs both: --manual-dir, your scans' folder or CSV, and --data-dir to keep them")
        from deepatlas_tf.datasets.choose_grid import WantedGrid
        from deepatlas_tf.datasets.nifti import nifti_dataset_builder

        wanted = WantedGrid(data.shape, data.spacing, data.max_voxels)
        builder = nifti_dataset_builder.prepared_builder(
            args.manual_dir, args.data_dir, wanted, options, data.alignment
        )
    else:
        grid = {name: getattr(data, name) for name in ("shape", "spacing", "n_subjects", "alignment")}
        builder = load.prepared_builder(data.dataset, args.data_dir, args.manual_dir, options, **grid)
    subjects = builder.info.metadata["subjects"]
    counts = ", ".join(f"{len(ids)} {split}" for split, ids in subjects.items())
    print(f"{args.dataset}: {counts}; {builder.info.dataset_size}\n{builder.data_dir}")
