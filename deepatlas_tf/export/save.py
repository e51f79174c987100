"""Writing the SavedModel of a run: a folder for each version, which appears when it is complete."""

import os
import shutil
from pathlib import Path

from deepatlas_tf.export.card import metadata, model_card
from deepatlas_tf.export.graph import Served
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.messages import say
from deepatlas_tf.runs.ensemble import Ensemble
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.folder import TASKS
from deepatlas_tf.runs.model import METADATA, REFERENCE, Reference, TrainedModel, open_model
from deepatlas_tf.scans.nifti import save
from deepatlas_tf.types import DataError, SettingError

CARD = "MODEL_CARD.md"


def export_folder(
    run_folder: Path, output: Path, version: int | None = None, stage: str | None = None, overwrite: bool = False
) -> Path:
    """Export the run in ``run_folder``, say where it is, and return the new version's folder.

    The arguments and errors are those of :func:`export_run`; DataError too where ``run_folder`` is no run.
    """
    run = open_model(run_folder)
    if isinstance(run, Ensemble):
        raise DataError(f"{run_folder} is a cross-validation: give the folder of one of its folds")
    if not isinstance(run, TrainedModel):
        raise DataError(f"{run_folder} is already an exported model: give the folder of a run")
    folder = export_run(run, output, version, stage, overwrite)
    say(f"{folder}: SavedModel, {METADATA}, {CARD}")
    return folder


def export_run(
    run: TrainedModel, output: Path, version: int | None = None, stage: str | None = None, overwrite: bool = False
) -> Path:
    """Write ``output/<version>/`` with the run's networks, and return it.

    Args:
        run: with at least one finished stage.
        output: what TensorFlow Serving calls the base path of a model.
        version: None is one more than the newest.
        stage: whose networks are exported; None takes the last on the run's grid that has each. One of full resolution
            is exported alone, as it has another grid.
        overwrite: replace the version if it is there.

    Raises:
        DataError: no stage is finished, or the version exists and is not to be overwritten.
    """
    version = _next_version(output) if version is None else version
    if version < 1:
        raise SettingError(f"--version {version}: TensorFlow Serving counts versions from 1")
    folder = output / str(version)
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} exists: choose another --version, or pass --overwrite")
    stages = _stages(run, stage)
    nets = {task: run.net(task, name) for task, name in stages.items() if name}
    about = metadata(run, stages, version)
    temporary = output / f".{os.getpid()}.{version}"
    try:
        _write(temporary, Served(len(run.grid.shape), **nets), about, run.grid.reference)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise DataError(f"cannot write {folder} ({reason}); choose another place with -o") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _stages(run: TrainedModel, stage: str | None) -> dict[str, str | None]:
    """Task -> the stage whose network is taken. A stage that is asked for need not have both."""
    finished = {task: run.stage_of(task) for task in TASKS}
    if not any(finished.values()):
        raise DataError(f"{run.path}: no stage of this run is finished; run the training command again to resume it")
    if stage is None:
        return finished
    chosen: dict[str, str | None] = {}
    for task in TASKS:
        try:
            chosen[task] = run.stage_of(task, stage)
        except SettingError as error:
            chosen[task], missing = None, error
    if not any(chosen.values()):
        raise missing
    return chosen


def _write(folder: Path, served: Served, about: dict, reference: Reference | None) -> None:
    # Without the gradients of our operations, which are compiled by XLA: it is served, not trained
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(served, str(folder), signatures=served.functions, options=options)
    write_json(folder / METADATA, about)
    if reference is not None:
        save(folder / REFERENCE, *reference.scan[:2])
    (folder / CARD).write_text(model_card(about), encoding="utf-8")


def _next_version(output: Path) -> int:
    folders = output.iterdir() if output.is_dir() else ()
    return 1 + max((int(folder.name) for folder in folders if folder.name.isdigit()), default=0)
