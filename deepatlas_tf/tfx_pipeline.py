"""The training as a TFX pipeline, with the extra ``[tfx-full]`` (TFX 1.15.1, Python 3.10 and 3.11).

    python -m deepatlas_tf.tfx_pipeline --dataset phantom_knee --tiny --workdir runs/tfx --serving-dir serving

ImportExampleGen takes the prepared TFRecords; StatisticsGen, SchemaGen and ExampleValidator look at what is stored of
each scan besides its voxels; Trainer calls ``run_fn``, which trains the experiment on the imported records; Pusher
copies the SavedModel to ``serving-dir/VERSION``. The options are those of ``deepatlas train``. ExampleValidator writes
down what it finds and stops nothing, as always in TFX: scans are checked by ``deepatlas data validate`` before.
"""

import argparse
import dataclasses
import os
import shutil
import sys
from pathlib import Path

from deepatlas_tf.commands import train
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.datasets.prepare import quiet
from deepatlas_tf.export.save import export_run
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.run import experiment_of, load
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.types import DataError, SettingError

# Without voxels, which TensorFlow Data Validation would count as strings, and names, which differ in every set
FEATURES = ("domain", "labelled", "spacing", "affine", "source_affine", "source_shape")


@dataclasses.dataclass(frozen=True)
class ImportedData(DataSet):
    """A data set whose records come from the files that the pipeline imported. files: split -> patterns."""

    files: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def records(self, split: str) -> tf.data.Dataset:
        """As of :class:`DataSet`, in the order in which they were imported."""
        return read_records(self.builder, self.files[split])


def read_records(builder, patterns) -> tf.data.Dataset:
    """The records of the builder's features in compressed TFRecord files, one file after the other."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    with quiet():
        features = builder.info.features
        return tf.data.TFRecordDataset(files, compression_type="GZIP").map(features.deserialize_example)


def imported(dataset: DataSet, files: dict[str, tuple[str, ...]]) -> ImportedData:
    """``dataset`` with the records of ``files``; importing has shuffled them, and the order of its subjects follows."""
    subjects = {}
    for split, patterns in files.items():
        names = read_records(dataset.builder, patterns).map(lambda record: record["subject"])
        subjects[split] = tuple(name.decode() for name in names.as_numpy_iterator())
    labelled = {split: tuple(s for s in ids if s in dataset.labelled[split]) for split, ids in subjects.items()}
    kept = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    return ImportedData(**kept | {"subjects": subjects, "labelled": labelled}, files=files)


def run_fn(fn_args) -> None:
    """Trainer's entry: train the experiment of ``custom_config``, and export it as ``deepatlas export`` does.

    Args:
        fn_args: of TFX. ``train_files`` and ``eval_files`` are the imported splits train and validation;
            ``model_run_dir`` becomes the run's folder, with its checkpoints, nets and TensorBoard logs; the SavedModel
        goes to ``serving_model_dir``, a folder of this machine.
    """
    args = argparse.Namespace(**fn_args.custom_config)
    experiment, dataset = experiment_of(args), _load(args)
    files = {"train": tuple(fn_args.train_files), "validation": tuple(fn_args.eval_files)}
    workdir = Path(fn_args.model_run_dir)
    train_experiment(experiment, imported(dataset, files), workdir)
    exported = export_run(TrainedModel(workdir), workdir / "export")
    shutil.copytree(exported, fn_args.serving_model_dir, dirs_exist_ok=True)


def make_pipeline(args, root: Path, serving_dir: Path):
    """The pipeline of the parsed options of ``deepatlas train``; its artifacts and metadata are under ``root``.

    Raises SettingError where TFX is not installed, and what ``load_dataset`` raises: the records are prepared here.
    """
    try:
        import tensorflow_data_validation as tfdv
        from tfx import v1 as tfx
    except ImportError as error:
        raise SettingError(
            f"TFX cannot be imported ({error}): pip install 'deepatlas_tf[tfx-full]' on Python 3.10 or 3.11"
        ) from error
    proto, components = tfx.proto, tfx.components
    builder = _load(args).builder
    splits = [
        proto.Input.Split(name=name, pattern=f"{builder.name}-{name}.tfrecord*")
        for name in ("train", "validation", "test")
    ]
    examples = components.ImportExampleGen(os.fspath(builder.data_dir), input_config=proto.Input(splits=splits))
    options = tfdv.StatsOptions(feature_allowlist=list(FEATURES))
    statistics = components.StatisticsGen(examples.outputs["examples"], stats_options=options)
    schema = components.SchemaGen(statistics.outputs["statistics"])
    validator = components.ExampleValidator(statistics.outputs["statistics"], schema.outputs["schema"])
    trainer = components.Trainer(
        run_fn=f"deepatlas_tf.tfx_pipeline.{run_fn.__name__}",
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        train_args=proto.TrainArgs(splits=["train"]),
        eval_args=proto.EvalArgs(splits=["validation"]),
        custom_config={name: _plain(value) for name, value in vars(args).items()},
    )
    place = proto.PushDestination.Filesystem(base_directory=os.fspath(serving_dir))
    pusher = components.Pusher(trainer.outputs["model"], push_destination=proto.PushDestination(filesystem=place))
    return tfx.dsl.Pipeline(
        pipeline_name=f"deepatlas_{args.dataset.replace('/', '_')}",
        pipeline_root=os.fspath(root / "artifacts"),
        components=[examples, statistics, schema, validator, trainer, pusher],
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.fspath(root / "metadata.sqlite")
        ),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline on this machine; 0 when it worked, else as ``deepatlas``."""
    parser = argparse.ArgumentParser(prog="python -m deepatlas_tf.tfx_pipeline", description=__doc__.split("\n")[0])
    train.add_arguments(parser)
    parser.add_argument("--serving-dir", type=Path, help="where the SavedModel is pushed to; default: WORKDIR/serving")
    args = parser.parse_args(argv)
    root = (args.workdir or Path("runs") / "tfx").resolve()
    try:
        pipeline = make_pipeline(args, root, (args.serving_dir or root / "serving").resolve())
        from tfx.v1.orchestration import LocalDagRunner

        LocalDagRunner().run(pipeline)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    return 0


def _load(args) -> DataSet:
    return load(experiment_of(args).data, args, args.workdir)


def _plain(value):
    """As JSON holds it, with absolute paths: Trainer may run elsewhere."""
    return os.fspath(value.resolve()) if isinstance(value, Path) else value


if __name__ == "__main__":
    sys.exit(main())
