"""The scans of a run as the peers are given them, and what the run has reached, in our own environment."""

import time
from pathlib import Path

import numpy as np
from peers.folder import pairs_of, read_volume, write_json, write_volume
from peers.ours import about_pairs, check, without_alignment, write_scans

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.keras_stack import versions
from deepatlas_tf.run import dataset_of_run
from deepatlas_tf.runs.files import write_rows
from deepatlas_tf.runs.folder import TASKS, RunFolder
from deepatlas_tf.runs.predict import IDENTITY, load_predictors
from deepatlas_tf.streams.subjects import read_samples
from deepatlas_tf.types import DataError
from joint.curves import curve_of_stage
from joint.folder import JointFolder

MOST_TIMED = 10  # scans and pairs whose seconds are measured


def write(run: Path, folder: JointFolder, data_dir: Path | None = None, manual_dir: Path | None = None) -> None:
    """Write all scans on the run's grid, the label maps that the peers may see, and the run's own results.

    The images are those that a network gets; where a run aligns its scans to a reference, those without the alignment.
    The peers get the label maps that the run was trained with, and those of the validation scans.

    Args:
        run: folder of a finished and evaluated run on volumes of one domain.
        folder: of the comparison.
        data_dir, manual_dir: as for ``deepatlas evaluate``.

    Raises:
        DataError: if the run is not evaluated, or is of another kind; if a label map of training lacks classes; if the
            folder holds another run.
    """
    if written := folder.stored(folder.ours_file):
        if written["run"] != run.resolve().name:
            raise DataError(f"{folder.path} holds the scans of {written['run']}: choose another folder")
        return
    run_folder = RunFolder(run)
    rows = {task: run_folder.table(task) for task in TASKS}
    if not any(rows.values()):
        raise DataError(f"{run} has not been evaluated: run deepatlas evaluate first")
    dataset = dataset_of_run(run, data_dir, manual_dir)
    check(run_folder, dataset)
    plain = without_alignment(dataset, run, data_dir, manual_dir)
    about = about_pairs(plain, run_folder.settings()["evaluation"]["pairs_per_subject"], {})
    write_scans(folder, plain, about)
    write_json(folder.pairs_file, about)
    _write_given(folder, plain, run_folder, about)
    for task, found in rows.items():
        folder.our_rows_file(task).parent.mkdir(exist_ok=True)
        write_rows(folder.our_rows_file(task), found)
    record = {"run": run.resolve().name, "trained_at": run_folder.record().get("git_commit"), "versions": versions()}
    minutes, seconds = _minutes(run_folder), _seconds(run, dataset)
    stages = {name: round(_with_needed(run_folder, name, minutes), 2) for name in minutes}
    curves = {
        stage.name: curve_of_stage(stage.metrics(), 60 * (stages[stage.name] - minutes[stage.name]))
        for stage in run_folder.stages()
    }
    trained = {"minutes": round(sum(minutes.values()), 2), "stages": stages, "curves": curves}
    write_json(folder.ours_file, {**record, **trained, "seconds": seconds})


def _write_given(folder: JointFolder, dataset: DataSet, run: RunFolder, about: dict) -> None:
    """Images and label maps of training, label maps of validation, and ``scans.json``."""
    given, labelled = folder.given, []
    used = run.data()["used_labels"]
    names = {subject: f"train-{index:03d}" for index, subject in enumerate(dataset.subjects["train"])}
    for subject, sample in read_samples(dataset.samples("train"), names).items():
        write_volume(given.image_file(names[subject]), sample["image"][..., 0], dataset.spacing)
        if subject in used:
            if not np.all(sample["label_weight"][1:] == 1):
                raise DataError(f"the label map of {subject} lacks classes: the peers take whole label maps")
            write_volume(given.label_file(names[subject]), sample["label"].astype(np.uint8), dataset.spacing)
            labelled.append(names[subject])
    scans = {"train": list(names.values()), "validation": [], "test": []}
    for name, scan in about["scans"].items():
        scans[scan["split"]].append(name)
    for name in scans["validation"]:
        write_volume(given.validation_label_file(name), read_volume(folder.label_file(name)), dataset.spacing)
    kept = {name: about[name] for name in ("class_names", "shape", "spacing")}
    pairs = {split: pairs_of(about, split) for split in ("validation", "test")}
    found = {"scans": scans, "labelled": labelled, "pairs": pairs, "seed": run.settings()["seed"]}
    write_json(given.scans_file, {**kept, **found})


def _minutes(run: RunFolder) -> dict[str, float]:
    """Minutes of training of each stage, without the validation after its epochs."""
    return {stage.name: sum(row["seconds"] for row in stage.metrics()) / 60 for stage in run.stages()}


def _with_needed(run: RunFolder, name: str, minutes: dict[str, float]) -> float:
    """Minutes of a stage and of all stages that it starts from."""
    settings, needed = {stage["name"]: stage for stage in run.settings()["stages"]}, [name]
    for stage in needed:
        sources = [*settings[stage]["start_from"].values(), *settings[stage]["pseudo_from"].values()]
        sources.append(settings[stage].get("anatomy_from"))
        needed += [source for source in dict.fromkeys(sources) if source and source not in needed]
    return sum(minutes[stage] for stage in needed)


def _seconds(run: Path, dataset: DataSet) -> dict[str, dict[str, float]]:
    """``{task: {stage: median seconds}}`` of one test scan or pair in memory, after a first call."""
    predictors = load_predictors(run)
    samples = read_samples(dataset.samples("test"), dataset.labelled["test"][: MOST_TIMED + 1])
    images = [sample["image"] for sample in samples.values()]
    pairs = list(zip(images, images[1:], strict=False))
    registrars = {name: register for name, register in predictors.registrars.items() if name != IDENTITY}
    labellers, alone = predictors.labellers, [(image,) for image in images]
    return {
        "segmentation": {name: _median(segment, alone) for name, segment in labellers.items()},
        "registration": {name: _median(register, pairs) for name, register in registrars.items()},
    }


def _median(function, arguments) -> float:
    taken = []
    function(*arguments[0])  # TensorFlow traces and compiles in a first call
    for given in arguments:
        start = time.perf_counter()
        function(*given)
        taken.append(time.perf_counter() - start)
    return round(float(np.median(taken)), 4)
