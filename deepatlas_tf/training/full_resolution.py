"""The stage that segments scans at their own resolution, which can be appended to any experiment.

The other stages see whole scans on one coarse grid, where the two networks teach each other. This one sees random
patches of the scans as fine as they are (:mod:`deepatlas_tf.streams.patches`): with their label maps, and, of scans
without one, with what both networks say together (:mod:`deepatlas_tf.training.pseudo`), brought to the fine grid. There
a voxel whose most probable class is not sure (``pseudo_gate``) has no weight.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf.datasets.copies import remember_copy
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.messages import say
from deepatlas_tf.methods import method_class
from deepatlas_tf.runs.files import replacing, write_json
from deepatlas_tf.runs.folder import TASKS, RunFolder, StageFolder
from deepatlas_tf.scans.components import classes_without_specks
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.streams.memory import resident_subjects, with_labels_of_a_byte
from deepatlas_tf.streams.patches import Patches
from deepatlas_tf.streams.pseudo_masks import STEPS, mask_path, read_mask
from deepatlas_tf.training.build_stream import pseudo_folder, used_labels
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.training.pseudo import write_pseudo_masks
from deepatlas_tf.types import DataError, SettingError

NAME = "full_resolution"
SURE = 0.9  # probability from which on a voxel of a scan without a label map counts
LABELLED = 0.5  # share of the patches from labelled scans, where others teach, too
MAX_CLASSES = 255  # one number of a byte says that the class is not known


def with_full_resolution(experiment: Experiment, template: Stage) -> Experiment:
    """The experiment with a last stage ``full_resolution``.

    Scans without a label map teach where earlier stages have trained networks of both tasks; else the labelled scans
    do so alone.

    Args:
        experiment: of any recipe.
        template: a stage of the method ``segmentation``, whose steps, augmentation and weights are taken.

    Raises:
        SettingError: if the experiment is for two domains.
    """
    if experiment.data.domains:
        raise SettingError("--full-resolution is for scans of one kind: leave out data.domains, or --full-resolution")
    teachers = _teachers(experiment.stages)
    steps = max((stage.pseudo_instance_steps for stage in experiment.stages), default=0)
    stage = dataclasses.replace(
        template,
        name=NAME,
        start_from={},
        labelled_fraction=(LABELLED if teachers else 1.0, None),
        pseudo_from=teachers,
        pseudo_gate=SURE if teachers else 0.0,
        pseudo_warped=None if teachers else template.pseudo_warped,
        pseudo_instance_steps=steps if teachers else 0,
        patches=Patches(),
    )
    return dataclasses.replace(experiment, stages=(*experiment.stages, stage))


def check_full_resolution(stage: Stage, experiment: Experiment, dataset: DataSet, fine: DataSet | None) -> None:
    """Refuse a stage of patches that cannot be trained, before the stages that come first are.

    Args:
        stage: of any kind.
        experiment: the settings of the run.
        dataset: the scans on the grid of the other stages.
        fine: the scans at their own resolution.

    Raises:
        DataError: there are no ``fine`` scans, too many classes, or too little memory for a few of the scans.
        SettingError: the patches that are set do not fit into the scans.
    """
    if stage.patches is None:
        return
    if fine is None:
        raise DataError(f"stage {stage.name} needs the scans at their own resolution, which this command has not")
    stage.patches.fitted(dataset.shape, fine.shape)
    _held(fine, experiment)
    if stage.pseudo_from and len(dataset.class_names) > MAX_CLASSES:
        raise DataError(
            f"stage {stage.name}: scans without a label map teach {MAX_CLASSES} classes at most; "
            f"--set stages.{stage.name}.pseudo_from={{}} leaves them out"
        )


def prepare_full_resolution(
    stage: Stage,
    experiment: Experiment,
    dataset: DataSet,
    fine: DataSet,
    validation_samples: Mapping[str, Mapping[str, np.ndarray]],
    workdir: Path,
) -> None:
    """Write what a stage of full resolution begins with: ``grid.json``, and label maps for scans without one.

    Args:
        stage: of patches.
        experiment: the settings of the run.
        dataset: the scans on the grid of the other stages.
        fine: the scans at their own resolution.
        validation_samples: labelled samples of ``dataset`` by subject, by which pseudo masks are measured.
        workdir: folder of the run.

    Raises:
        DataError: the stage was begun on another grid.
    """
    patches, folder = stage.patches or Patches(), RunFolder(workdir).stage(stage.name)
    patch = patches.fitted(dataset.shape, fine.shape)
    grid, before = {"shape": list(patch), "spacing": list(fine.spacing)}, folder.grid()
    if before is not None and any(before[name] != value for name, value in grid.items()):
        where = folder.path
        raise DataError(f"{where} is of patches of another grid: choose another --workdir, or delete {where}")
    used = used_labels(dataset, experiment)
    found = classes_without_specks(_own_labels(fine, used))
    known = [index for index in found if index < len(dataset.class_names)]  # the next one are voxels to be ignored
    write_json(folder.grid_file, grid | {"without_specks": known})
    remember_copy(fine.builder, folder.path / "data")
    held, most = _held(fine, experiment), experiment.data.memory_gib
    shapes = [" x ".join(f"{value:g}" for value in values) for values in (fine.shape, fine.spacing, patch)]
    say(
        f"[{stage.name}] scans of {shapes[0]} voxels of {shapes[1]} mm, in patches of {shapes[2]}; {held} of "
        f"{len(fine.subjects['train'])} training scans are in memory at a time (data.memory_gib={most:g})"
    )
    if stage.pseudo_from and set(dataset.subjects["train"]) > set(used):
        write_pseudo_masks(stage, experiment, dataset, validation_samples, workdir)
        _write_teacher_labels(stage, experiment, dataset, fine, folder)


def fine_label(mask: np.ndarray, coarse: GridTransform, fine: GridTransform, sure: float) -> np.ndarray:
    """The label map ``(*F)`` uint8 of a fine grid by class probabilities of a coarse one of the same scan.

    The probabilities are interpolated linearly; a voxel whose most probable class is less probable than ``sure``, or
    that the coarse grid does not reach, has the index ``C``.

    Args:
        mask: ``(*S, C)`` uint8, 255 for a probability of 1.
        coarse, fine: of the scan's grid to either.
        sure: in [0, 1].
    """
    best = np.zeros(fine.shape, np.float32)
    label = np.full(fine.shape, mask.shape[-1], np.uint8)
    for index in range(mask.shape[-1]):
        share = fine.from_grid(mask[..., index], coarse)
        label[share > best] = index
        best = np.maximum(best, share)
    label[best < sure * STEPS] = mask.shape[-1]
    return label


def _held(fine: DataSet, experiment: Experiment) -> int:
    """How many training scans are in memory at a time. Raises DataError where it is too small for a few of them."""
    samples, n = with_labels_of_a_byte(fine.samples("train")), len(fine.subjects["train"])
    return resident_subjects(samples, n, experiment.data.memory_gib)


def _own_labels(fine: DataSet, subjects: Collection[str]) -> Iterator[np.ndarray]:
    """The label maps of training subjects on the scans' own grids, one after the other."""
    for record in fine.records("train").as_numpy_iterator():
        if record["subject"].decode() in subjects:
            yield record["own_label"]


def _write_teacher_labels(
    stage: Stage, experiment: Experiment, dataset: DataSet, fine: DataSet, folder: StageFolder
) -> None:
    """A file for each training subject whose label map is not used; each appears whole, and is made once."""
    masks, labelled = pseudo_folder(folder.path.parent, stage), set(used_labels(dataset, experiment))
    folder.teacher_labels.mkdir(parents=True, exist_ok=True)
    shares = []
    for record in dataset.records("train").as_numpy_iterator():
        subject = record["subject"].decode()
        path = mask_path(folder.teacher_labels, subject)
        if subject in labelled or path.exists():
            continue
        source = record["source_affine"], tuple(int(n) for n in record["source_shape"])
        grids = [GridTransform(*source, one.shape, one.spacing) for one in (dataset, fine)]
        label = fine_label(read_mask(masks, subject), grids[0], grids[1], stage.pseudo_gate)
        shares.append(np.mean(label < len(dataset.class_names)))
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, label=label)
    if shares:
        sure = f"{np.mean(shares):.0%} of the voxels are sure enough to teach"
        say(f"[{stage.name}] scans without a label map: {len(shares)}, of which {sure}")


def _teachers(stages: Sequence[Stage]) -> dict[str, str]:
    """For each of ``TASKS`` the last stage that trains a network for it; {} where there is none for one of them."""
    found = {}
    for stage in stages:
        cls = method_class(stage.method)
        trained = {net for turn, n in stage.turns.items() if n for net in cls.nets_of(turn)}
        registers = stage.weights.get("registration", {}).get("similarity")
        for task in TASKS:
            if task in trained and (task == "segmentation" or registers):
                found[task] = stage.name
    return found if set(found) == set(TASKS) else {}
