"""Losses of translation between two domains. Each returns one value for each example, ``(B,)`` float32."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.types import Tensor


@compiled
def least_squares(score: Tensor, target: float) -> Tensor:
    """Mean squared distance of a discriminator's scores from ``target`` (least-squares GAN: Mao et al., ICCV 2017).

    The discriminator learns to give 1 for real and 0 for generated images, the generator to be given 1 for its own.

    Args:
        score: ``(B, *S', 1)``, one score for each patch.
        target: 0 or 1.
    """
    return tf.reduce_mean(tf.math.squared_difference(score, target), axis=list(range(1, score.shape.rank)))


def discrimination(score_real: Tensor, score_generated: Tensor) -> Tensor:
    """The discriminator's loss, ``1/2 [mean (D(x) - 1)^2 + mean D(G(z))^2]``; 1/4 for a constant score of 1/2.

    Args:
        score_real: ``(B, *S', 1)`` scores of the images of the domain.
        score_generated: ``(B, *S', 1)`` scores of the translated ones.
    """
    return 0.5 * (least_squares(score_real, 1.0) + least_squares(score_generated, 0.0))


@compiled
def absolute_difference(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute intensity difference, as in the cycle and identity losses of CycleGAN (Zhu et al., ICCV 2017).

    Args:
        one: ``(B, *S, 1)``.
        other: ``(B, *S, 1)``.
    """
    return tf.reduce_mean(tf.abs(one - other), axis=list(range(1, one.shape.rank)))
