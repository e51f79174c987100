"""Scans of one or several channels, such as T1 and T2: a file for each, all on one grid."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepatlas_tf import messages
from deepatlas_tf.scans import checks, nifti
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.scans.nifti import Nifti

ONE = ("image",)
"""The name of the channel where there is one."""


def read_channels(
    paths: Sequence[Path],
    names: Sequence[str],
    subject: str,
    n_axes: int = 3,
    warn: Callable[[str], None] = messages.warn,
) -> Nifti:
    """Read the files of a scan, one for each channel, as float32.

    Args:
        paths: of the channels, in the order of ``names``.
        names: what the channels are called, for messages.
        subject, n_axes, warn: as for :func:`~deepatlas_tf.scans.nifti.read_image`.

    Raises:
        DataError: a file cannot be used, or a channel does not lie on the grid of the first one.
    """
    first = nifti.read_image(paths[0], subject, n_axes, warn)
    others = []
    for path, name in zip(paths[1:], names[1:], strict=True):
        other = nifti.read_image(path, subject, n_axes, warn)
        checks.check_same_grid(subject, (paths[0], first), (path, other), f"channel {name},")
        others.append(other.volume)
    return first._replace(others=tuple(others))


def to_network(scan: Nifti, transform: GridTransform) -> np.ndarray:
    """The image (*S, K) float32 on the network's grid: each channel rescaled to [0, 1] by itself."""
    return np.stack([transform.image_to_network(rescale(channel)) for channel in scan.channels], axis=-1)
