"""The data contract: shapes, units and axis order of everything that goes through the package.

``B`` batch, ``*S`` spatial axes ((X, Y) or (X, Y, Z), in canonical RAS order), ``D = len(S)``, ``C`` classes,
``K`` channels of an image.
A displacement field ``u`` is ``(B, *S, D)`` in voxels of the network's grid; axis order is component order ('ij'), and
``warp(image, u)(x) = image(x + u(x))``.
"""

from typing import Any, Literal, TypedDict

Tensor = Any  # a tf.Tensor, or an array that TensorFlow takes for one; this module does not import TensorFlow


class _WholeSample(TypedDict):
    image: Tensor
    label: Tensor
    label_weight: Tensor
    subject: Tensor


class Sample(_WholeSample, total=False):
    """One scan and what is known of its anatomy; batched, every entry has a leading ``B``.

    image: ``(*S, K)`` float32, intensities rescaled to [0, 1].
    label: ``(*S,)`` int32 class index in 0..C-1, 0 is background; all zero where there is no label. ``C`` in a voxel
        that is ignored.
    label_weight: ``(C,)`` float32, the weight of each class's label: 1 for a manual one, 0 where the class is not
        labelled in this map, between for a soft pseudo label. All 0: there is no label map. A voxel marked 0 may be of
        a class that is not labelled, so the background's weight is 0 unless all classes are labelled.
    subject: ``()`` string.

    A stream with pseudo masks has one entry more, ``soft_label``: ``(*S, C)`` float32, the class probabilities that
    stand for the label where the weight is below 1, ``w onehot(label) + (1 - w) soft_label``. They sum to 1, or are all
    0 in a voxel where the mask is not trusted; of a sample whose label is whole they are not used, and 0.

    A stream of patches has ``voxel_weight``: ``(*S, 1)`` float32, 0 where it is not known of which class a voxel is.

    A stream of whole scans has ``known`` where label maps have ignored voxels: ``(*S, 1)`` float32, 0 in these, else 1.
    """

    soft_label: Tensor
    voxel_weight: Tensor
    known: Tensor


class Pair(TypedDict):
    """Two samples to be registered: ``moving`` is warped onto ``fixed``."""

    moving: Sample
    fixed: Sample


Side = Literal["moving", "fixed"]  # a key of a pair


class DataError(ValueError):
    """Bad input; the message is one line that names the subject or file and says what to do."""


class MissingDataError(DataError):
    """The data set is not where it was looked for; the message says what to get and where to put it."""


class SettingError(DataError):
    """A setting that does not exist or cannot have the given value; one line that names what could be meant."""


class DivergedError(RuntimeError):
    """A loss term is no longer finite; the message is one line that names it and the step."""
