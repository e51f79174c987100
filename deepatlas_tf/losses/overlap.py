"""Disagreement of two anatomies, as class probabilities. Each returns one value for each example, ``(B,)`` float32."""

from deepatlas_tf.keras_stack import tf

_EPSILON = 1e-5


@tf.function(jit_compile=True)
def soft_dice(prediction, reference):
    """One minus the mean soft Dice over the foreground classes (Xu & Niethammer, MICCAI 2019, anatomy loss).

    ``1 - 1/(C-1) sum_c (2 sum_x p_c q_c + e) / (sum_x p_c + sum_x q_c + e)``; class 0, the background, is left out. It
    is symmetric in its arguments, and a class that is absent from both costs nothing.

    Args:
        prediction: ``(B, *S, C)`` probabilities or a (warped) one-hot label map.
        reference: ``(B, *S, C)``.
    """
    axes = list(range(1, prediction.shape.rank - 1))
    p, q = prediction[..., 1:], reference[..., 1:]
    overlap = tf.reduce_sum(p * q, axis=axes)
    volume = tf.reduce_sum(p, axis=axes) + tf.reduce_sum(q, axis=axes)
    return 1 - tf.reduce_mean((2 * overlap + _EPSILON) / (volume + _EPSILON), axis=-1)


@tf.function(jit_compile=True)
def cross_entropy(prediction, reference):
    """Mean over the voxels of ``- sum_c q_c log p_c``.

    Args:
        prediction: ``(B, *S, C)`` probabilities ``p``.
        reference: ``(B, *S, C)`` probabilities ``q``, one-hot for a manual label.
    """
    terms = -tf.reduce_sum(reference * tf.math.log(tf.maximum(prediction, 1e-7)), axis=-1)
    return tf.reduce_mean(terms, axis=list(range(1, terms.shape.rank)))
