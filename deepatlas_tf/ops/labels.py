"""Label maps as class probabilities."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.types import Tensor


def one_hot(label: Tensor, n_classes: int) -> Tensor:
    """One-hot encoding of a label map: ``(B, *S)`` class indices -> ``(B, *S, C)`` float32."""
    return tf.one_hot(label, n_classes, dtype=tf.float32)


@compiled(towards=("probabilities",))
def mix(label: Tensor, label_weight: Tensor, probabilities: Tensor) -> Tensor:
    """Anatomy of a sample: the label map for the classes that it labels, the prediction for the rest.

    With one weight ``w`` for all classes it is ``w onehot(label) + (1 - w) probabilities``. Where only some classes are
    labelled, a voxel of such a class is certain, and elsewhere the prediction is restricted to the other classes:
    ``w_c L_c + (1 - sum_k w_k L_k) (1 - w_c) p_c / sum_k (1 - w_k) p_k``. It sums to one over the classes.

    Args:
        label: ``(B, *S)`` class indices; does not matter where the weights are 0.
        label_weight: ``(B, C)`` in [0, 1].
        probabilities: ``(B, *S, C)`` prediction of the segmentation network.

    Returns:
        ``(B, *S, C)`` probabilities.
    """
    weight = per_class(label_weight, probabilities)
    known = weight * one_hot(label, probabilities.shape[-1])
    rest = (1 - weight) * probabilities
    share = rest / tf.maximum(tf.reduce_sum(rest, axis=-1, keepdims=True), 1e-6)
    return known + (1 - tf.reduce_sum(known, axis=-1, keepdims=True)) * share


def per_class(weight: Tensor, probabilities: Tensor) -> Tensor:
    """Reshape ``(B, C)`` to ``(B, 1, ..., 1, C)``, to be multiplied with ``probabilities (B, *S, C)``."""
    spatial = (1,) * (len(probabilities.shape) - 2)
    return tf.reshape(weight, (-1, *spatial, probabilities.shape[-1]))


def per_example(value: Tensor, like: Tensor) -> Tensor:
    """Reshape ``(B,)`` to ``(B, 1, ..., 1)``, to be combined with ``like (B, ...)``."""
    return tf.reshape(value, (-1, *[1] * (len(like.shape) - 1)))
