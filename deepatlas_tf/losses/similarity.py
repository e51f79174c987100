"""Dissimilarity of two images. Each returns one value for each example, ``(B,)`` float32; smaller is more alike.

A perfect match gives 0, except for the mutual information, which is negative. Losses for two contrasts are in
:mod:`deepatlas_tf.losses.multimodal`; :data:`SIMILARITIES` has all of them by the name that settings use.
"""

import functools
import inspect
from collections.abc import Callable, Mapping

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.multimodal import mind_ssc, mutual_information, ngf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.filters import box_sum
from deepatlas_tf.types import Tensor

_EPSILON = 1e-5


@compiled
def ncc(warped: Tensor, fixed: Tensor) -> Tensor:
    """One minus the global normalised cross-correlation (Xu & Niethammer, MICCAI 2019, image similarity term).

    ``1 - cov(a, b) / sqrt(var(a) var(b))`` over all voxels; in [0, 2]. A constant image gives 1.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
    """
    a, b = _centred(warped), _centred(fixed)
    covariance = tf.reduce_mean(a * b, axis=1)
    variances = tf.reduce_mean(a * a, axis=1) * tf.reduce_mean(b * b, axis=1)
    return 1 - covariance * tf.math.rsqrt(variances + _EPSILON**2)


def local_ncc(warped: Tensor, fixed: Tensor, window: int = 9) -> Tensor:
    """One minus the mean squared local cross-correlation (Avants et al., MedIA 2008): 1 + voxelmorph's ``NCC`` loss.

    ``cc = cov(a, b)^2 / (var(a) var(b))`` in the cube of ``window`` voxels around each voxel, zero-padded at the
    border; in [0, 1]. Covariance and variances (sums over the cube) are held above 1e-5, as in voxelmorph 0.2: so
    patches that are constant in both images count as a match and never give NaN, and patches that correlate negatively
    count as no match.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
        window: odd number of voxels.
    """
    a, b = tf.convert_to_tensor(warped), tf.convert_to_tensor(fixed)
    # Each sum is a program of its own: in one for all, XLA computes much of it again and again, and in one thread
    sum_a, sum_b, sum_aa, sum_bb, sum_ab = (box_sum(x, window) for x in (a, b, a * a, b * b, a * b))
    return _local_correlation(sum_a, sum_b, sum_aa, sum_bb, sum_ab, float(window ** (a.shape.rank - 2)))


@compiled
def _local_correlation(sum_a, sum_b, sum_aa, sum_bb, sum_ab, n_voxels):
    """One minus the mean squared correlation ``(B,)`` of sums ``(B, *S, 1)`` over cubes of ``n_voxels``."""
    covariance = tf.maximum(sum_ab - sum_a * sum_b / n_voxels, _EPSILON)
    variance_a = tf.maximum(sum_aa - sum_a * sum_a / n_voxels, _EPSILON)
    variance_b = tf.maximum(sum_bb - sum_b * sum_b / n_voxels, _EPSILON)
    return 1 - _mean_over_voxels((covariance / variance_a) * (covariance / variance_b))


@compiled
def mse(warped: Tensor, fixed: Tensor, image_sigma: float = 1.0) -> Tensor:
    """Mean squared intensity difference over ``image_sigma^2`` (Balakrishnan et al., TMI 2019, eq. 5).

    It equals voxelmorph 0.2's ``MSE(image_sigma)``. Dalca et al. (MedIA 2019) divide by ``2 sigma^2``, the likelihood
    of Gaussian noise: their sigma is this one divided by ``sqrt(2)``.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
        image_sigma: standard deviation of the noise, in units of the intensity.
    """
    return _mean_over_voxels(tf.math.squared_difference(warped, fixed)) / image_sigma**2


SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "ncc": ncc,
    "local_ncc": local_ncc,
    "mse": mse,
    "mutual_information": mutual_information,
    "mind_ssc": mind_ssc,
    "ngf": ngf,
}
"""Name in the settings -> function ``(warped, fixed, ...) -> (B,)`` of images ``(B, *S, 1)``."""

CHANNEL_WEIGHTS = "channel_weights"  # a setting of every similarity


def similarity_function(name: str, settings: Mapping[str, float] | None = None) -> Callable:
    """The similarity of that name as a function ``(warped, fixed) -> (B,)``, with its other arguments set.

    Images ``(B, *S, K)`` of several channels are compared channel by channel, and the values summed with weights.

    Args:
        name: a key of :data:`SIMILARITIES`.
        settings: keyword arguments, such as ``{"image_sigma": 0.05}``, ``{"window": 7}`` or ``{"n_bins": 16}``; and
            ``channel_weights``, one for each channel, by default ``1 / K`` each.

    Raises:
        ValueError: if there is no such similarity, it has no such setting, or the weights are no weights.
    """
    if name not in SIMILARITIES:
        raise ValueError(f"similarity is {' or '.join(SIMILARITIES)}, not {name!r}")
    settings = dict(settings or {})
    weights = settings.pop(CHANNEL_WEIGHTS, None)
    known = list(inspect.signature(SIMILARITIES[name]).parameters)[2:]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"similarity {name} has no setting {unknown[0]!r}; it has {', '.join([*known, CHANNEL_WEIGHTS])}"
        )
    if weights is not None and not _are_weights(weights):
        raise ValueError(f"{CHANNEL_WEIGHTS} are numbers of 0 or more, not all 0, such as (0.5, 0.5), not {weights!r}")
    return functools.partial(_by_channel, functools.partial(SIMILARITIES[name], **settings), weights)


def _are_weights(weights):
    if not isinstance(weights, list | tuple) or not all(isinstance(w, int | float) and w >= 0 for w in weights):
        return False
    return 0 < sum(weights) < float("inf")


def _by_channel(function, weights, warped, fixed):
    """The weighted sum over the channels of ``(B, *S, K)``."""
    n = fixed.shape[-1]
    weights = weights or (1 / n,) * n
    if len(weights) != n:
        raise ValueError(f"{CHANNEL_WEIGHTS} has {len(weights)} weights for images of {n} channels")
    if n == 1:
        return weights[0] * function(warped, fixed)
    values = [function(warped[..., k : k + 1], fixed[..., k : k + 1]) for k in range(n)]
    return tf.add_n([weight * value for weight, value in zip(weights, values, strict=True)])


def _centred(image):
    """Images ``(B, *S, 1)`` as ``(B, V)``, each minus its mean."""
    flat = tf.reshape(image, (tf.shape(image)[0], -1))
    return flat - tf.reduce_mean(flat, axis=1, keepdims=True)


def _mean_over_voxels(x):
    """Mean of ``(B, *S, C)`` over all but the batch: ``(B,)``."""
    return tf.reduce_mean(x, axis=list(range(1, x.shape.rank)))
