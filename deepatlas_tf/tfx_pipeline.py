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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepatlas_tf.commands import train
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.datasets.prepare import quiet
from deepatlas_tf.export.save import export_run
from deepatlas_tf.keras_stack import tf, tfds
from deepatlas_tf.run import load_data, make_experiment
from deepatlas_tf.runs.model import TrainedModel
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.types import DataError, SettingError

# Without voxels, which TensorFlow Data Validation would count as strings, and names, which differ in every set
FEATURES = ("domain", "labelled", "spacing", "affine", "source_affine", "source_shape")


@dataclasses.dataclass(frozen=True)
class ImportedData(DataSet):
    """A data set whose records come from the files that the pipeline imported; ``files`` is split -> patterns."""

    files: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def records(self, split: str) -> tf.data.Dataset:
        """The records of a split, in the order in which they were imported."""
        return read_records(self.builder, self.files[split])


def read_records(builder: tfds.core.DatasetBuilder, patterns: Iterable[str]) -> tf.data.Dataset:
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


def run_fn(fn_args: Any) -> None:
    """Trainer's entry: train the experiment of ``custom_config``, and export it as ``deepatlas export`` does.

    Args:
        fn_args: of TFX. ``train_files`` and ``eval_files`` are the imported splits train and validation;
            ``model_run_dir`` becomes the run's folder, with its checkpoints, nets and TensorBoard logs; the SavedModel
        goes to ``serving_model_dir``, a folder of this machine.
    """
    experiment = make_experiment(**fn_args.custom_config["experiment"])
    places = {name: path and Path(path) for name, path in fn_args.custom_config["places"].items()}
    dataset = load_data(experiment.data, **places)
    files = {"train": tuple(fn_args.train_files), "validation": tuple(fn_args.eval_files)}
    workdir = Path(fn_args.model_run_dir)
    train_experiment(experiment, imported(dataset, files), workdir)
    exported = export_run(TrainedModel(workdir), workdir / "export")
    shutil.copytree(exported, fn_args.serving_model_dir, dirs_exist_ok=True)


def make_pipeline(
    options: Mapping[str, Any],
    root: Path,
    serving_dir: Path,
    *,
    workdir: Path | None = None,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> Any:
    """The pipeline that trains an experiment; the records are prepared here.

    Args:
        options: arguments of :func:`~deepatlas_tf.run.make_experiment`.
        root: folder of the artifacts and metadata of TFX.
        serving_dir: where the SavedModel is pushed to.
        workdir, data_dir, manual_dir: as for :func:`~deepatlas_tf.run.train`.

    Raises SettingError where TFX is not installed, and what ``load_dataset`` raises.
    """
    try:
        from tfx import v1 as tfx
    except ImportError as error:
        raise SettingError(
            f"TFX cannot be imported ({error}): pip install -e '.[tfx-full]' on Python 3.10 or 3.11"
        ) from error
    data = make_experiment(**options).data
    places = {"workdir": workdir, "data_dir": data_dir, "manual_dir": manual_dir}
    builder = load_data(data, **places).builder
    # Trainer may run in another folder
    absolute = {name: path and os.fspath(path.resolve()) for name, path in places.items()}
    config = {"experiment": dict(options), "places": absolute}
    return tfx.dsl.Pipeline(
        pipeline_name=f"deepatlas_{data.dataset.replace('/', '_')}",
        pipeline_root=os.fspath(root / "artifacts"),
        components=_components(tfx, builder, config, serving_dir),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.fspath(root / "metadata.sqlite")
        ),
    )


def _components(tfx: Any, builder: tfds.core.DatasetBuilder, config: dict[str, Any], serving_dir: Path) -> list:
    """The steps of the pipeline, from the prepared records to the pushed model; ``config`` is for ``run_fn``."""
    import tensorflow_data_validation as tfdv

    proto, components = tfx.proto, tfx.components
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
        custom_config=config,
    )
    place = proto.PushDestination.Filesystem(base_directory=os.fspath(serving_dir))
    pusher = components.Pusher(trainer.outputs["model"], push_destination=proto.PushDestination(filesystem=place))
    return [examples, statistics, schema, validator, trainer, pusher]


def main(argv: list[str] | None = None) -> int:
    """Run the pipeline on this machine; 0 when it worked, else as ``deepatlas``."""
    parser = argparse.ArgumentParser(prog="python -m deepatlas_tf.tfx_pipeline", description=__doc__.split("\n")[0])
    train.add_arguments(parser)
    parser.add_argument("--serving-dir", type=Path, help="where the SavedModel is pushed to; default: WORKDIR/serving")
    args = parser.parse_args(argv)
    root = (args.workdir or Path("runs") / "tfx").resolve()
    try:
        unknown = [name for name in ("config", "init_from", "folds") if getattr(args, name)]
        if unknown:
            raise SettingError(f"the pipeline does not take --{unknown[0].replace('_', '-')}: use deepatlas train")
        options, serving_dir = train.experiment_options(args), (args.serving_dir or root / "serving").resolve()
        places = {name: getattr(args, name) for name in ("workdir", "data_dir", "manual_dir")}
        pipeline = make_pipeline(options, root, serving_dir, **places)
        from tfx.v1.orchestration import LocalDagRunner

        LocalDagRunner().run(pipeline)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
