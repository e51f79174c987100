"""How far a warped or predicted label can be trusted, voxel by voxel: weights in [0, 1] for an anatomy loss.

Each function returns ``(B, *S, 1)`` float32, for the argument ``voxel_weight`` of the losses in
:mod:`deepatlas_tf.losses.overlap`.
"""

import math

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.consistency import inverse_consistency_error
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.labels import per_class
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Tensor

CONSISTENCY_SCALE = 2.0  # voxels


@compiled
def alignment_confidence(moving: Tensor, fixed: Tensor, u: Tensor, u_back: Tensor) -> Tensor:
    """Confidence in the registration of a pair, on the fixed image's grid: ``exp(-|e(x) / 2|^2 - r(x)^2)``.

    ``e(x) = u(x) + u_back(x + u(x))``, in voxels, is how far from ``x`` the way to the moving image and back ends
    (inverse consistency: Christensen & Johnson, TMI 2001). ``r(x) = z(I_m o (id + u))(x) - z(I_f)(x)`` is the remaining
    difference of the images, each standardised by ``z`` to mean 0 and standard deviation 1; its mean square is
    ``2 (1 - NCC)``, and a linear change of contrast does not count. An error of two voxels, or of one standard
    deviation of the image, takes the weight to 1/e: trained networks are somewhat inconsistent also where they are
    right, and only more than that says that they are wrong. Both images must have the same contrast. Of several
    channels ``r^2`` is the mean.

    Args:
        moving: image ``(B, *S, K)``.
        fixed: image ``(B, *S, K)``.
        u: displacement field ``(B, *S, D)`` in voxels, which warps ``moving`` onto ``fixed``.
        u_back: displacement field ``(B, *S, D)`` in voxels, which warps ``fixed`` onto ``moving``.
    """
    error = inverse_consistency_error(u_back, u) / CONSISTENCY_SCALE
    residual = _standardised(warp(moving, u)) - _standardised(fixed)
    residual = tf.reduce_mean(residual * residual, axis=-1, keepdims=True)
    return tf.exp(-tf.reduce_sum(error * error, axis=-1, keepdims=True) - residual)


@compiled
def prediction_confidence(probabilities: Tensor) -> Tensor:
    """Confidence in a prediction, ``max(0, 1 - H(x))`` with the entropy ``H = -sum_c p_c log2 p_c`` in bits.

    It is 1 where a class is certain, as in a manual label, and 0 where two classes are equally likely, as at a
    boundary, whatever the number of classes.

    Args:
        probabilities: ``(B, *S, C)``.
    """
    entropy = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1, keepdims=True) / math.log(2)
    return tf.clip_by_value(1 - entropy, 0, 1)


def confidence_in_labels(pair: Pair, warped_confidence: Tensor, anatomy_fixed: Tensor) -> Tensor:
    """Weight of each voxel and class ``(B, *S, C)``: what is labelled is certain, the rest as far as the network is.

    Args:
        pair: batch of :class:`~deepatlas_tf.types.Pair`.
        warped_confidence: ``(B, *S, 1)`` of the moving anatomy.
        anatomy_fixed: ``(B, *S, C)``.
    """
    weight = 1.0
    confidences = (warped_confidence, prediction_confidence(anatomy_fixed))
    for side, confidence in zip((pair["moving"], pair["fixed"]), confidences, strict=True):
        labelled = per_class(side["label_weight"], anatomy_fixed)
        weight *= labelled + (1 - labelled) * confidence
    return tf.stop_gradient(weight)  # or the field would look for voxels that count little


def _standardised(image):
    """Images ``(B, *S, K)`` whose channels have mean 0 and standard deviation 1."""
    axes = list(range(1, len(image.shape) - 1))
    mean, variance = tf.nn.moments(image, axes, keepdims=True)
    return (image - mean) * tf.math.rsqrt(variance + 1e-10)
