"""Cross-validation: a run for each fold, one table of them all, and their networks as one model."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepatlas_tf.evaluation.summary import COLUMNS, aligned_columns, method_order, summarise_rows
from deepatlas_tf.messages import say
from deepatlas_tf.run import default_workdir, load_data, train
from deepatlas_tf.runs.ensemble import FOLDS
from deepatlas_tf.runs.files import write_json
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.training.experiment import Experiment
from deepatlas_tf.types import DataError, SettingError


def cross_validate(
    experiment: Experiment,
    n_folds: int,
    workdir: Path | None = None,
    *,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    strategy: str = "none",
) -> Path:
    """Train and measure a run for each fold, in ``WORKDIR/fold_0``, ...; the same call goes on where it was stopped.

    The labelled subjects are cut into so many parts, each of which is tested in one fold; as many folds as labelled
    subjects leave one out. ``folds.json``, written at the end, has for each method the mean and the standard deviation
    of the folds' means, also on the scans' own grids where there is a stage of full resolution. The folder can then be
    given to ``segment`` and ``register`` as one model.

    Args:
        experiment: the settings of every fold.
        n_folds: how many there are, at least 2.
        workdir, data_dir, manual_dir, strategy: as for :func:`~deepatlas_tf.run.train`.

    Returns:
        The folder of the cross-validation.

    Raises:
        SettingError: if the experiment is of one fold already, there are fewer labelled subjects than folds, or it is
            for several machines.
        DataError: if ``workdir`` is a run of its own, and what :func:`~deepatlas_tf.run.train` raises.
    """
    workdir = workdir or default_workdir(experiment.data.dataset, data_dir, manual_dir)
    _check(experiment, n_folds, workdir, strategy)
    if experiment.data.dataset == "nifti" and manual_dir is None:  # prepared once, for all folds
        data_dir, manual_dir = workdir / "data", data_dir
    # prepared, or why there are not so many folds
    load_data(dataclasses.replace(experiment.data, folds=n_folds), workdir, data_dir, manual_dir)
    folders = [workdir / f"fold_{fold}" for fold in range(n_folds)]
    for fold, folder in enumerate(folders):
        say(f"\nfold {fold + 1} of {n_folds}")
        data = dataclasses.replace(experiment.data, fold=fold, folds=n_folds)
        one = dataclasses.replace(experiment, data=data)
        train(one, folder, data_dir=data_dir, manual_dir=manual_dir, strategy=strategy)
    found = scores_of(folders)
    write_json(workdir / FOLDS, {"folds": [folder.name for folder in folders], **found})
    _show(found, n_folds)
    return workdir


def _check(experiment: Experiment, n_folds: int, workdir: Path, strategy: str) -> None:
    """Refuse what cannot be trained in folds."""
    if experiment.data.fold or experiment.data.folds:
        raise SettingError("--folds trains all folds: leave data.fold and data.folds as they are")
    if strategy == "multi_worker":
        raise SettingError("--folds trains on one machine: give each fold to the workers by data.fold and data.folds")
    if n_folds < 2:
        raise SettingError(f"--folds {n_folds}: 2 folds are the fewest")
    if RunFolder(workdir).settings_file.exists():
        raise DataError(f"{workdir} is a run of its own: choose another --workdir for the {n_folds} folds")


def _show(found: Mapping[str, dict], n_folds: int) -> None:
    print(f"\nMean and standard deviation over {n_folds} folds, in which each labelled subject is tested once\n")
    print(folds_table(found["scores"]))
    if "own_grid_scores" in found:
        print("\nThe same on the scans' own grids\n")
        print(folds_table(found["own_grid_scores"], tasks=("segmentation",)))


def scores_of(folders: Sequence[Path]) -> dict[str, dict]:
    """The ``scores`` of the runs of all folds as :func:`over_folds` gives them.

    Where all have a stage of full resolution, also ``own_grid_scores``, on the scans' own grids.
    """
    runs = [RunFolder(folder) for folder in folders]
    found = {"scores": over_folds([_summary(run) for run in runs])}
    own = [_own_grid_summary(run) for run in runs]
    return found | ({"own_grid_scores": over_folds(own)} if all(own) else {})


def over_folds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict]]:
    """Each measure over the folds: ``{method: {task: {measure: {"mean", "sd", "folds"}}}}``.

    ``sd`` is the standard deviation of the folds' means (n - 1), None of one fold; a measure that is defined in no fold
    is missing.

    Args:
        summaries: what :func:`~deepatlas_tf.evaluation.summary.summarise_rows` gave for each fold.
    """
    scores: dict[str, dict[str, dict]] = {}
    for method in method_order(name for summary in summaries for name in summary):
        scores[method] = {}
        for _, task, measure, _ in COLUMNS:
            found = [summary.get(method, {}).get(task, {}).get(measure, {}).get("mean") for summary in summaries]
            values = [value for value in found if value is not None]
            if values:
                sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
                one = {"mean": float(np.mean(values)), "sd": sd, "folds": len(values)}
                scores[method].setdefault(task, {})[measure] = one
    return scores


def folds_table(
    scores: Mapping[str, Mapping[str, Mapping]], tasks: Collection[str] = ("segmentation", "registration")
) -> str:
    """The scores of :func:`over_folds` as aligned plain text, one line for each method; the columns of ``tasks``."""
    columns = [column for column in COLUMNS if column[1] in tasks]
    rows = [["method", *(heading for heading, *_ in columns)]]
    for method, of_tasks in scores.items():
        cells = [_cell(of_tasks.get(task, {}).get(measure), digits) for _, task, measure, digits in columns]
        rows.append([method, *cells])
    return aligned_columns(rows)


def _cell(score: Mapping[str, Any] | None, digits: int) -> str:
    if score is None:
        return "-"
    spread = "" if score["sd"] is None else f" ± {score['sd']:.{digits}f}"
    return f"{score['mean']:.{digits}f}{spread}"


def _summary(folder: RunFolder) -> dict:
    return folder.summary() if folder.summary_file.exists() else {}


def _own_grid_summary(folder: RunFolder) -> dict:
    rows = folder.table("segmentation_own_grid")
    return summarise_rows(rows, [], folder.model()["class_names"][1:]) if rows else {}
