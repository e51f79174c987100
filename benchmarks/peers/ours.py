"""The pairs of a run's data as NIfTI files, and the fields of what the run has learned, in our own environment."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from turns import commit

from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.load import DataSet, load_dataset
from deepatlas_tf.evaluation.evaluate import ALIGNMENT
from deepatlas_tf.evaluation.plain_grid import plain_field
from deepatlas_tf.keras_stack import versions
from deepatlas_tf.run import dataset_of_run
from deepatlas_tf.runs.data_record import check_not_trained_on, check_same_grid
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.predict import IDENTITY, Predictors, load_predictors
from deepatlas_tf.streams.subjects import read_samples, registration_pairs
from deepatlas_tf.types import DataError
from peers.folder import SPLITS, PeersFolder, pairs_of, read_volume, write_field, write_json, write_volume

OURS = "ours"  # the setting of each of our methods


@dataclasses.dataclass(frozen=True)
class Refinement:
    """``--instance-steps`` and ``--anatomy`` of ``deepatlas evaluate``."""

    instance_steps: int = 0
    anatomy: bool = False


def write(
    run: Path,
    folder: PeersFolder,
    refinement: Refinement,
    most_pairs: Mapping[str, int | None],
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
) -> None:
    """Write the pairs, unless another run on the same data has, and the fields of this run on the test pairs.

    The peers get the images that a network gets, and where a run aligns its scans to a reference, those without the
    alignment: both are measured on that grid.

    Args:
        run: folder of a finished run on volumes with labels.
        folder: of the comparison.
        refinement: the registrars ``<stage>_instance`` and ``<stage>_anatomy``.
        most_pairs: of each split so many pairs, evenly from all; None for all.
        data_dir, manual_dir: as for ``deepatlas evaluate``.

    Raises:
        DataError: if the run is on slices or on several domains, a split has no label maps, or the folder holds other
            pairs.
    """
    dataset = dataset_of_run(run, data_dir, manual_dir)
    plain = without_alignment(dataset, run, data_dir, manual_dir)
    check(RunFolder(run), dataset)
    predictors = load_predictors(run, refinement.instance_steps, refinement.anatomy)
    about = about_pairs(plain, RunFolder(run).settings()["evaluation"]["pairs_per_subject"], most_pairs)
    if folder.pairs_file.exists():
        if {**folder.about(), "label_weights": {}} != about:
            raise DataError(f"{folder.path} holds other pairs than those of {run}: choose another folder")
    else:
        write_scans(folder, plain, about)
        write_json(folder.pairs_file, about)  # last: it says that all scans are there
    _write_fields(folder, predictors, dataset, RunFolder(run), refinement)


def without_alignment(dataset: DataSet, run: Path, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The data set of a run as it is on the same grid without the alignment to a reference, if there is one."""
    if dataset.alignment == NONE:
        return dataset
    kept = {"data_dir": data_dir, "manual_dir": manual_dir, "workdir": run}
    grid = {"shape": dataset.shape, "spacing": dataset.spacing}
    return load_dataset(dataset.name, **kept, **grid, fold=RunFolder(run).settings()["data"].get("fold", 0))


def check(run: RunFolder, dataset: DataSet) -> None:
    """DataError where this data set cannot be compared, or is not what the run was trained on."""
    if len(dataset.shape) != 3:
        raise DataError(f"{run.path} is a run on slices: the peers are compared on volumes")
    if len(set(dataset.domains.values())) > 1:
        raise DataError(f"{run.path} is a run on several domains: the peers are compared within one")
    check_same_grid(run.model(), dataset, str(run.path))
    for split in SPLITS:
        if len(dataset.labelled[split]) < 2:
            raise DataError(f"{dataset.name}: fewer than two {split} subjects have a label map to be compared with")
    if recorded := run.data():
        check_not_trained_on(recorded, dataset.subjects["test"], "test", str(run.path))


def about_pairs(dataset: DataSet, pairs_per_subject: int, most_pairs: Mapping[str, int | None]) -> dict:
    """The content of ``pairs.json``, but for the weights of the labels; ``most_pairs`` as for :func:`write`."""
    pairs, scans = [], {}
    for split in SPLITS:
        subjects = dataset.labelled[split]
        chosen = evenly(registration_pairs(subjects, pairs_per_subject), most_pairs.get(split))
        used = [subject for subject in subjects if any(subject in pair for pair in chosen)]
        names = {subject: f"{split}-{index:03d}" for index, subject in enumerate(used)}
        scans |= {name: {"subject": subject, "split": split} for subject, name in names.items()}
        for index, (moving, fixed) in enumerate(chosen):
            pair = {"pair": f"{split}-{index:03d}", "split": split, "moving": names[moving], "fixed": names[fixed]}
            pairs.append(pair)
    return {
        "dataset": dataset.name,
        "synthetic": bool(dataset.synthetic),
        "class_names": list(dataset.class_names),
        "shape": list(dataset.shape),
        "spacing": [float(step) for step in dataset.spacing],
        "scans": scans,
        "label_weights": {},
        "pairs": pairs,
    }


def evenly(items: Sequence, most: int | None) -> list:
    """All items, or ``most`` of them at even distances."""
    if most is None or most >= len(items):
        return list(items)
    return [items[int(index)] for index in np.arange(most) * len(items) / most]


def write_scans(folder: PeersFolder, dataset: DataSet, about: dict) -> None:
    """Write images and label maps of the scans of the pairs, and add the weights of their labels to ``about``."""
    for split in SPLITS:
        names = {scan["subject"]: name for name, scan in about["scans"].items() if scan["split"] == split}
        for subject, sample in read_samples(dataset.samples(split), names).items():
            write_volume(folder.image_file(names[subject]), sample["image"][..., 0], dataset.spacing)
            write_volume(folder.label_file(names[subject]), sample["label"].astype(np.uint8), dataset.spacing)
            about["label_weights"][names[subject]] = [float(weight) for weight in sample["label_weight"]]


def _write_fields(folder: PeersFolder, predictors: Predictors, dataset, run: RunFolder, refinement: Refinement) -> None:
    about = folder.about()
    pairs = pairs_of(about, "test")
    wanted = {about["scans"][pair[side]]["subject"] for pair in pairs for side in ("moving", "fixed")}
    samples = {s["subject"].decode(): s for s in dataset.measured("test") if s["subject"].decode() in wanted}
    _check_labels(folder, about, samples)
    methods = folder.stored(folder.ours_file)
    record = {"run": run.path.name, "commit": commit(), "trained_at": run.record().get("git_commit")}
    record |= {"versions": versions(), **dataclasses.asdict(refinement), "seed": run.settings()["seed"]}
    for name, register in predictors.registrars.items():
        if name == IDENTITY and dataset.alignment == NONE:
            continue
        method = f"{run.path.name}: {ALIGNMENT if name == IDENTITY else name}"
        for index, pair in enumerate(pairs):
            moving, fixed = (samples[about["scans"][pair[side]]["subject"]] for side in ("moving", "fixed"))
            if index == 0:
                register(moving["image"], fixed["image"])  # TensorFlow traces and compiles in a first call
            start = time.perf_counter(), time.process_time()
            u = register(moving["image"], fixed["image"])
            taken = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
            if dataset.alignment != NONE:
                u = plain_field(u, moving["plain_to_network"], fixed["plain_to_network"])
            write_field(folder.field_file(method, OURS, pair["pair"]), u, **taken)
        methods[method] = record
        write_json(folder.ours_file, methods)


def _check_labels(folder, about, samples) -> None:
    """DataError where the label maps that all are measured on are not those of this run's scans."""
    for name, scan in about["scans"].items():
        if scan["subject"] in samples:
            sample = samples[scan["subject"]]
            if not np.array_equal(sample.get("plain_label", sample["label"]), read_volume(folder.label_file(name))):
                raise DataError(f"{folder.path}: the label map of {scan['subject']} is not that of the run's data")
