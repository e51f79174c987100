"""Soft pseudo masks of images without a label: what two trained networks agree on (UniSegReg, arXiv 2502.03229).

    Q = (1 - b) 1/5 [S(I) + sum_{j=1..4} T_j^-1 S(T_j I)] + b 1/5 sum_{j=1..5} A(s_j) o (id + R(I_{s_j}, I))

``T_j`` is a rotation of up to 20 degrees in one plane, or a shift of up to 10 % of each axis, in voxels; ``s_j`` are
five labelled subjects, drawn without repetition as far as there are five. With ``pseudo_instance_steps`` of the stage
each field is refined for its two images first (:mod:`deepatlas_tf.runs.instance`). The anatomy ``A`` of a source is
its label, which ``S`` completes where only some classes are labelled.

``b`` is 1/2 in the paper (``pseudo_warped`` of the stage). Which of the two parts is the better one depends on the data
and the number of labels; with None ``b`` is the one of ``PARTS`` whose masks of the validation subjects are best.

Every mask follows from its own seed, and its file appears whole: an interrupted stage goes on with the masks that are
missing, to the same result. ``quality.csv`` is written last, and says that all are there.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.messages import say
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models.build import load_net
from deepatlas_tf.runs.atlases import Atlas, completed, warped_anatomy
from deepatlas_tf.runs.files import replacing, write_rows
from deepatlas_tf.runs.folder import TASKS, net_path
from deepatlas_tf.runs.predict import refined_registrar, registrar, segmenter, warp_image
from deepatlas_tf.streams.pairs import hide_labels
from deepatlas_tf.streams.pseudo_masks import STEPS, encode, mask_path, read_mask
from deepatlas_tf.streams.subjects import read_samples
from deepatlas_tf.training.build_stream import pseudo_folder, stage_seed, used_labels
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.types import DataError

ROTATION_DEGREES, SHIFT = 20.0, 0.1
N_MOTIONS, N_SOURCES = 4, 5
PARTS = (0.5, 0.0, 0.25, 0.75)  # that warped label maps may have in a mask; the first where nothing can be measured


class Motion(NamedTuple):
    """A rigid motion of an image: a rotation about the grid's centre, or a shift.

    axes: the two axes that span the plane of the rotation. degrees: its angle, 0 for a shift. shift: voxels along each
    axis, zeros for a rotation.
    """

    axes: tuple[int, int]
    degrees: float
    shift: tuple[float, ...]


class Parts(NamedTuple):
    """The two parts of a mask, class probabilities (*S, C) each: the mean prediction, the mean warped label map."""

    predicted: np.ndarray
    warped: np.ndarray

    def mask(self, warped: float) -> np.ndarray:
        """The mask in which the warped label maps have this part."""
        return (1 - warped) * self.predicted + np.float32(warped) * self.warped


class Measured(NamedTuple):
    """part: that warped label maps have in the masks. rows: of ``quality.csv``, of the validation subjects."""

    part: float
    rows: list[dict]


class TeacherNets(NamedTuple):
    """The two networks that make the masks, as functions of NumPy arrays.

    segment: image (*S, K) -> probabilities (*S, C). register: moving, fixed -> u (*S, D).
    """

    segment: Callable
    register: Callable


def write_pseudo_masks(
    stage: Stage,
    experiment: Experiment,
    dataset: DataSet,
    validation_samples: Mapping[str, Mapping[str, np.ndarray]],
    workdir: Path,
) -> None:
    """Write a pseudo mask for each training subject whose label map is missing or partial, and ``quality.csv``.

    They go to ``WORKDIR/<stage>/pseudo``; masks that are there already are kept. Those of the validation subjects are
    only measured, which shows whether confident masks are good ones.

    Args:
        stage: the stage that will learn from the masks; its ``pseudo_from`` names the networks.
        experiment: the settings of the run.
        dataset: the scans.
        validation_samples: labelled validation samples by subject, NumPy arrays.
        workdir: folder of the run.

    Raises:
        DataError: if no subject has a label to start from.
    """
    folder = pseudo_folder(workdir, stage)
    if (folder / "quality.csv").exists():
        return
    labelled = used_labels(dataset, experiment)
    if not labelled:
        raise DataError(f"stage {stage.name}: pseudo masks need at least one labelled subject; see --labels")
    nets = teacher_nets(stage, experiment, workdir)
    samples = hide_labels(dataset.samples("train"), labelled)
    sources = list(read_samples(samples, labelled).values())
    seed = stage_seed(stage, experiment)
    measured = measure_masks(stage, validation_samples, dataset.class_names, partial(mask_parts, sources, nets), seed)
    rows = []
    for index, sample in enumerate(samples.as_numpy_iterator()):
        if sample["label_weight"].min() == 1:
            continue
        subject = sample["subject"].decode()
        path = mask_path(folder, subject)
        if not path.exists():
            parts = mask_parts(sources, nets, sample["image"], np.random.default_rng((seed, 0, index)))
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, soft_label=encode(parts.mask(measured.part)))
        rows += quality(subject, "train", read_mask(folder, subject) / STEPS, dataset.class_names)
    write_rows(folder / "quality.csv", [*rows, *measured.rows])


def teacher_nets(stage: Stage, experiment: Experiment, workdir: Path) -> TeacherNets:
    """The networks that make the masks of a stage, of the earlier stages that it names."""
    names = stage.pseudo_from
    segmentation, registration = (load_net(net_path(workdir, names[task], task)) for task in TASKS)
    if not stage.pseudo_instance_steps:
        return TeacherNets(segmenter(segmentation), registrar(registration))
    source = next(earlier for earlier in experiment.stages if earlier.name == names["registration"])
    refined = refined_registrar(registration, dataclasses.asdict(source), stage.pseudo_instance_steps)
    return TeacherNets(segmenter(segmentation), refined)


def measure_masks(
    stage: Stage,
    samples: Mapping[str, Mapping[str, np.ndarray]],
    class_names: Sequence[str],
    make: Callable[[np.ndarray, np.random.Generator], Parts],
    seed: int,
) -> Measured:
    """Measure the masks of the validation subjects, and choose the part of warped label maps by them where it is None.

    Args:
        stage: its ``pseudo_warped`` is the part; None takes the best of ``PARTS``, the first without subjects.
        samples: labelled samples by subject, NumPy arrays.
        class_names: background included.
        make: gives the parts of the mask of an image ``(*S, K)``.
        seed: of the draws.
    """
    rows = {part: [] for part in (PARTS if stage.pseudo_warped is None else (stage.pseudo_warped,))}
    for index, (subject, sample) in enumerate(samples.items()):
        parts = make(sample["image"], np.random.default_rng((seed, 1, index)))
        for part, found in rows.items():
            found += quality(subject, "validation", parts.mask(part), class_names, sample)

    def score(part: float) -> float:
        found = [row["dice"] for row in rows[part] if not np.isnan(row["dice"])]
        return float(np.mean(found)) if found else -np.inf

    part = max(rows, key=score)
    if stage.pseudo_warped is None:
        say(f"[{stage.name}] pseudo masks: {part:.0%} of a mask are warped label maps, the rest predictions")
    return Measured(part, rows[part])


def mask_parts(sources: Sequence[Mapping], nets: TeacherNets, image: np.ndarray, rng: np.random.Generator) -> Parts:
    """The parts of the soft pseudo mask of an image, class probabilities ``(*S, C)`` float32.

    One is the mean prediction for the image and for four moved copies of it, moved back; the other one that of the
    label maps of five other subjects, registered to the image; what they ignore is filled in by the former.

    Args:
        sources: labelled samples of other subjects, NumPy arrays.
        nets: the two networks.
        image: ``(*S, K)`` in [0, 1].
        rng: draws the motions and the subjects.
    """
    shape = image.shape[:-1]
    predicted = [nets.segment(image)]
    for motion in [draw_motion(shape, rng) for _ in range(N_MOTIONS)]:
        there, back = displacement(shape, motion), displacement(shape, inverse(motion))
        predicted.append(warp_image(nets.segment(warp_image(image, there)), back))
    prediction, drawn = np.mean(predicted, axis=0), draw_sources(len(sources), rng)
    atlases = {index: Atlas.of_sample(sources[index]) for index in dict.fromkeys(drawn)}  # some are drawn several times
    warped = {index: warped_anatomy(atlas, nets.segment, nets.register, image) for index, atlas in atlases.items()}
    votes = np.mean([warped[index] for index in drawn], axis=0)
    ignored = any(atlas.ignored.any() for atlas in atlases.values())
    return Parts(prediction, completed(votes, prediction) if ignored else votes)


def draw_motion(shape: Sequence[int], rng: np.random.Generator) -> Motion:
    """Draw a motion for a grid of ``shape``: a rotation or a shift, each with probability 1/2."""
    n_axes = len(shape)
    if rng.random() < 0.5:
        a, b = (int(axis) for axis in sorted(rng.choice(n_axes, 2, replace=False)))
        return Motion((a, b), float(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)), (0.0,) * n_axes)
    return Motion((0, 1), 0.0, tuple(float(s) for s in rng.uniform(-SHIFT, SHIFT, n_axes) * shape))


def inverse(motion: Motion) -> Motion:
    """The motion that undoes a motion."""
    return Motion(motion.axes, -motion.degrees, tuple(-s for s in motion.shift))


def displacement(shape: Sequence[int], motion: Motion) -> np.ndarray:
    """The displacement field ``(*S, D)`` in voxels which moves an image when it is warped by it.

    The result is that of ``scipy.ndimage.rotate`` and ``shift``.
    """
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"), axis=-1)
    a, b = motion.axes
    cos, sin = np.cos(np.radians(motion.degrees)), np.sin(np.radians(motion.degrees))
    source = grid.copy()
    source[..., a] = cos * grid[..., a] + sin * grid[..., b]
    source[..., b] = cos * grid[..., b] - sin * grid[..., a]
    return (source - grid - np.array(motion.shift)).astype(np.float32)


def draw_sources(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw five numbers below ``n``, without repetition as long as there are enough of them."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-N_SOURCES // n))])[:N_SOURCES]


def quality(
    subject: str,
    split: str,
    mask: np.ndarray,
    class_names: Sequence[str],
    sample: Mapping[str, np.ndarray] | None = None,
) -> list[dict]:
    """The rows of ``quality.csv`` for one mask, one for each foreground class.

    ``confidence`` and ``entropy`` (in nats) are means over the voxels where the class is the most probable one.
    ``dice`` compares these voxels with the label. A measure that is not defined is NaN.

    Args:
        subject, split: named in the rows.
        mask: class probabilities ``(*S, C)``.
        class_names: background included.
        sample: holds the label map to compare with; None where there is none.
    """
    found = mask.argmax(axis=-1)
    confidence = mask.max(axis=-1)
    entropy = -np.sum(mask * np.log(np.maximum(mask, 1e-12)), axis=-1)
    scores = np.full(len(class_names) - 1, np.nan)
    if sample is not None:
        measured = dice(found, sample["label"], len(class_names))
        scores = np.where(sample["label_weight"][1:] > 0, measured, np.nan)
    rows = []
    for index, name in enumerate(class_names[1:]):
        inside = found == index + 1
        means = [float(x[inside].mean()) if inside.any() else np.nan for x in (confidence, entropy)]
        start = {"subject": subject, "split": split, "class": name}
        rows.append({**start, "confidence": means[0], "entropy": means[1], "dice": float(scores[index])})
    return rows
