"""The data contract: shapes, units and axis order, said once.

``B`` batch, ``*S`` spatial axes ((X, Y) or (X, Y, Z), in canonical RAS order), ``D = len(S)``, ``C`` classes.
A displacement field ``u`` is ``(B, *S, D)`` in voxels of the network's grid; axis order is component order ('ij'), and
``warp(image, u)(x) = image(x + u(x))``.
"""

from typing import Any, TypedDict

Tensor = Any  # a tf.Tensor; this module imports no TensorFlow, so that metrics and tools can use it


class Sample(TypedDict):
    """One scan and what is known of its anatomy; batched, every entry has a leading ``B``.

    image: ``(*S, 1)`` float32, intensities rescaled to [0, 1].
    label: ``(*S,)`` int32 class index in 0..C-1, 0 is background; all zero where there is no label.
    label_weight: ``()`` float32; 1 for a manual label, 0 for none, between for a soft pseudo label.
    subject: ``()`` string.
    """

    image: Tensor
    label: Tensor
    label_weight: Tensor
    subject: Tensor


class Pair(TypedDict):
    """Two samples to be registered: ``moving`` is warped onto ``fixed``."""

    moving: Sample
    fixed: Sample


class DataError(ValueError):
    """Bad input; the message is one line that names the subject or file and says what to do."""


class MissingDataError(DataError):
    """The data set is not where it was looked for; the message says what to get and where to put it."""


class SettingError(DataError):
    """A setting that does not exist or cannot have the given value; one line that names what could be meant."""


class DivergedError(RuntimeError):
    """A loss term is no longer finite; the message is one line that names it and the step."""
