"""Test-time flips: the mean of what a network says of a scan and of its mirror image, left and right exchanged.

    P(I) = (S(I) + F S(F I)) / 2

``F`` mirrors the axis from left to right of the network's grid, of the classes, too, where their names tell a side. It
is the mirroring of nnU-Net (Isensee et al., Nature Methods 2021) along the one axis along which anatomy is its own
mirror image; for a knee or a liver it is not.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from deepatlas_tf.runs.predict import Predictors, Segmenter, most_probable, segmenter
from deepatlas_tf.types import SettingError

OTHER = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}
CERTAIN = {"left", "right", "lh", "rh"}
WORD = re.compile(r"[^\W\d_]+")


def with_flips(segment: Segmenter, class_names: Sequence[str]) -> Segmenter:
    """A segmenter whose probabilities are the mean over a scan ``(X, Y, Z, K)`` and its mirror image.

    Args:
        segment: of a segmentation network of volumes; the first axis of its grid leads to the right.
        class_names: of its classes; see :func:`other_sides`.

    Raises:
        SettingError: a class has a side, and there is none of the other side.
    """
    order = list(other_sides(class_names))

    def both(image: np.ndarray) -> np.ndarray:
        flipped = segment(np.ascontiguousarray(image[::-1]))[::-1]
        return (segment(image) + flipped[..., order]) * np.float32(0.5)

    return both


def other_sides(class_names: Sequence[str]) -> tuple[int, ...]:
    """For each class the index of the one that it is in a mirror: of the same name with the sides exchanged.

    Words for a side are left and right, lh and rh, l and r, in any case, between signs or digits, as in
    ``Left-Putamen``, ``ctx-lh-insula`` or ``hippocampus_L``. A class without one is its own mirror image, and so is one
    whose l or r has no other side: it may mean something else.

    Raises:
        SettingError: there is no class of the other side.
    """
    lowered = [name.lower() for name in class_names]
    found = []
    for index, name in enumerate(lowered):
        other = WORD.sub(lambda word: OTHER.get(word[0], word[0]), name)
        if other not in lowered and CERTAIN & set(WORD.findall(name)):
            raise SettingError(f"--flips: the mirror image of the class {name} is {other}, which is no class")
        found.append(lowered.index(other) if other != name and other in lowered else index)
    return tuple(found)


def check_flips(n_axes: int, right_sides_only: bool = False) -> None:
    """SettingError where a mirror image is none of what the network knows: a slice, or the other knee."""
    if n_axes != 3:
        raise SettingError("--flips is for volumes: of a slice it is not known where left is")
    if right_sides_only:
        raise SettingError("--flips: this model knows right sides only, and a mirror image is a left one")


def flipped(predictors: Predictors, class_names: Sequence[str]) -> Predictors:
    """The predictors of a run with ``<stage>_flips`` among the labellers, the network of each with flips."""
    labellers, domains = dict(predictors.labellers), dict(predictors.domains)
    for name, net in predictors.segmentation_nets.items():
        labellers[f"{name}_flips"] = most_probable(with_flips(segmenter(net), class_names))
        domains[f"{name}_flips"] = predictors.domains[name]
    return dataclasses.replace(predictors, labellers=labellers, domains=domains)
