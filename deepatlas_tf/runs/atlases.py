"""Segmentation with atlases: both networks together, at test time. An atlas is a scan with its label map.

    P = (1 - b) S(I) + b mean_k A_k o (id + R(I_k, I))

Each atlas ``(I_k, A_k)`` is registered to the image ``I``, and its warped label map is a vote beside what the
segmentation network ``S`` predicts; the most probable class wins. This is label fusion with equal weights (the survey
of Iglesias & Sabuncu, MedIA 2015) by the two networks of DeepAtlas (Xu & Niethammer, MICCAI 2019). Where an atlas is
ignored it has no vote, and the segmentation network's counts in its place. The sum is that of
UniSegReg's pseudo masks (Li et al., arXiv 2502.03229; :mod:`deepatlas_tf.training.pseudo`), and so is ``b``, 1/2.

A template is a scan without a label map that votes like an atlas: its anatomy ``A_k`` is its own ``P``, by the network
and the atlases. So a few label maps reach an image over many scans, whose errors differ (LEAP: Wolz et al., NeuroImage
2010; MAGeT Brain: Pipitone et al., NeuroImage 2014). With templates ``b`` is 3/4.

Two images may be registered by aligning their ``P``, too (:mod:`deepatlas_tf.runs.instance`): what is wrong in the
predictions of the network for one of them pulls at the field, and the votes have less of it.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.messages import progress
from deepatlas_tf.ops.labels import mix
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.runs.predict import (
    Predictors,
    Registrar,
    Segmenter,
    guided_by,
    most_probable,
    registration_beside,
    segmenter,
    warp_image,
)
from deepatlas_tf.streams.pseudo_masks import encode
from deepatlas_tf.types import SettingError

PART = 0.5  # of warped label maps in the sum, as in UniSegReg
PART_WITH_TEMPLATES = 0.75  # which are many
REMEMBERED = 10  # segmentations of an evaluation


class Atlas(NamedTuple):
    """A scan with its label map, on the network's grid.

    image (*S, K) float32 in [0, 1]; label (*S,) int32 class index, ``C`` in ignored voxels; label_weight (C,) float32,
    0 for a class that is not labelled.
    """

    image: np.ndarray
    label: np.ndarray
    label_weight: np.ndarray

    @classmethod
    def of_sample(cls, sample: Mapping[str, np.ndarray]) -> "Atlas":
        """The atlas of a :class:`~deepatlas_tf.types.Sample` of NumPy arrays without a batch axis."""
        return cls(sample["image"], sample["label"], sample["label_weight"])

    @property
    def ignored(self) -> np.ndarray:
        """Which voxels ``(*S,)`` have no vote."""
        return self.label == self.label_weight.size


class Template(NamedTuple):
    """A scan without a label map that votes like an atlas.

    image (*S, K) float32 in [0, 1]; mask (*S, C) uint8, class probabilities in 255 steps, a quarter of the memory.
    """

    image: np.ndarray
    mask: np.ndarray

    def warped(self, register: Registrar, image: np.ndarray) -> np.ndarray:
        """Its anatomy, registered to ``image (*S, K)`` and warped linearly: class probabilities ``(*S, C)``."""
        anatomy = self.mask / self.mask.sum(axis=-1, keepdims=True, dtype=np.float32)  # rounded, the sum is not 255
        return warp_image(anatomy, register(self.image, image))


def with_templates(
    segment: Segmenter, register: Registrar, atlases: Sequence[Atlas], images: Sequence[np.ndarray]
) -> Segmenter:
    """A segmenter that lets atlases and scans without a label map vote with a segmentation network, see the module.

    Args:
        segment, register, atlases: of :func:`with_atlases`; there may be no atlas.
        images: ``(*S, K)`` of the templates, whose anatomies are made at once. None is its own template.
    """
    by_atlases = with_atlases(segment, register, atlases)
    shown = progress(images, desc="templates", unit="scan") if images else ()
    templates = [Template(image, encode(by_atlases(image))) for image in shown]
    return with_atlases(segment, register, atlases, PART_WITH_TEMPLATES, templates) if templates else by_atlases


def with_atlases(
    segment: Segmenter,
    register: Registrar,
    atlases: Sequence[Atlas],
    part: float = PART,
    templates: Sequence[Template] = (),
) -> Segmenter:
    """A segmenter that lets atlases vote with a segmentation network, see the module.

    No scan is its own atlas: one whose image is the very one that is segmented is left out, and where no other is left
    the network decides alone.

    Args:
        segment: of the segmentation network; it also completes the label maps in which a class is not labelled.
        register: of the registration network.
        atlases: on the grid of the images that are segmented.
        part: ``b``, in [0, 1], of warped label maps in the sum.
        templates: more votes.
    """

    def fused(image: np.ndarray) -> np.ndarray:
        others = [atlas for atlas in atlases if not np.array_equal(atlas.image, image)]
        more = [template for template in templates if not np.array_equal(template.image, image)]
        predicted, n = segment(image), len(others) + len(more)
        if not n:
            return predicted
        of_atlases = (warped_anatomy(atlas, segment, register, image) for atlas in others)
        of_templates = (template.warped(register, image) for template in more)
        votes = functools.reduce(np.add, itertools.chain(of_atlases, of_templates))
        if any(atlas.ignored.any() for atlas in others):
            votes = completed(votes, predicted, n)
        return np.float32(1 - part) * predicted + np.float32(part / n) * votes

    return fused


def warped_anatomy(atlas: Atlas, segment: Segmenter, register: Registrar, image: np.ndarray) -> np.ndarray:
    """The anatomy of an atlas, registered to ``image (*S, K)`` and warped linearly: class probabilities ``(*S, C)``.

    It is the label map; where only some classes are labelled, ``segment`` completes it. It is 0 in ignored voxels.
    """
    label, weight = atlas.label[None], atlas.label_weight[None]
    predicted = segment(atlas.image) if weight.min() < 1 else np.zeros((*label.shape[1:], weight.size), np.float32)
    anatomy = mix(tf.constant(label), tf.constant(weight), tf.constant(predicted[None])).numpy()[0]
    if atlas.ignored.any():
        anatomy = np.where(atlas.ignored[..., None], np.float32(0), anatomy)
    return warp_image(anatomy, register(atlas.image, image))


def completed(votes: np.ndarray, predicted: np.ndarray, n: float = 1) -> np.ndarray:
    """The sum of ``n`` votes ``(*S, C)``, with the prediction ``(*S, C)`` for those that are missing in a voxel."""
    return votes + (np.float32(n) - votes.sum(axis=-1, keepdims=True)) * predicted


def remembering(segment: Segmenter, n: int = REMEMBERED) -> Segmenter:
    """``segment``, which keeps its last ``n`` results, as the scans of an evaluation are in several pairs each."""
    known: dict[bytes, np.ndarray] = {}

    def remembered(image: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in known:
            if len(known) == n:
                del known[next(iter(known))]
            known[key] = segment(image)
        return known[key]

    return remembered


def voting(
    workdir: Path,
    predictors: Predictors,
    atlases: Sequence[Atlas],
    templates: Sequence[np.ndarray] = (),
    refined: bool = False,
) -> Predictors:
    """The predictors of a run, with those in which atlases vote.

    ``<stage>_atlases`` is among the labellers, the network of each with atlases, which are registered by the network
    that :func:`~deepatlas_tf.runs.predict.registration_beside` finds for the stage. ``<stage>_anatomy_atlases`` is
    among the registrars for each ``<stage>_anatomy``, refined by what is voted for in the place of the predictions.

    Args:
        workdir: folder of the run.
        predictors: the functions of its finished stages.
        atlases: on the network's grid.
        templates: images ``(*S, K)`` of scans that vote without a label map; then it is ``<stage>_templates``, and
            ``<stage>_anatomy_templates``.
        refined: register by ``<stage>_instance`` of the predictors, which refines the field for each pair.

    Raises:
        SettingError: if the run has no segmentation network, or none that registers images.
    """
    folder, kind = RunFolder(workdir), "templates" if templates else "atlases"
    if not predictors.labellers:
        raise SettingError(f"--{kind}: no finished stage of {workdir} has learned to segment")
    labellers, registrars = dict(predictors.labellers), dict(predictors.registrars)
    domains = dict(predictors.domains)
    voted: dict[str, Segmenter] = {}
    for name, net in predictors.segmentation_nets.items():
        beside = registration_beside(folder, name)
        if beside is None:
            raise SettingError(f"--{kind}: no finished stage of {workdir} has learned to register images")
        register = predictors.registrars[f"{beside}_instance" if refined else beside]
        voted[name] = remembering(with_templates(segmenter(net), register, atlases, templates))
        labellers[f"{name}_{kind}"], domains[f"{name}_{kind}"] = most_probable(voted[name]), predictors.domains[name]
    for name, guided in predictors.guided.items():
        if guided.stage in voted:  # else its network is of another run, and has no votes
            method = f"{name}_anatomy_{kind}"
            registrars[method] = guided_by(guided.refine, voted[guided.stage])
            domains[method] = predictors.domains[name]
    return dataclasses.replace(predictors, labellers=labellers, registrars=registrars, domains=domains)
