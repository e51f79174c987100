"""Label maps as class probabilities."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.types import Tensor


def one_hot(label: Tensor, n_classes: int) -> Tensor:
    """One-hot encoding of a label map: ``(B, *S)`` class indices -> ``(B, *S, C)`` float32; 0 in ignored voxels."""
    return tf.one_hot(label, n_classes, dtype=tf.float32)


@compiled(towards=("probabilities",))
def mix(label: Tensor, label_weight: Tensor, probabilities: Tensor, known: Tensor | None = None) -> Tensor:
    """Anatomy of a sample: the label map for the classes that it labels, the prediction for the rest.

    With one weight ``w`` for all classes it is ``w onehot(label) + (1 - w) probabilities``. Where only some classes are
    labelled, a voxel of such a class is certain, and elsewhere the prediction is restricted to the other classes:
    ``w_c L_c + (1 - sum_k w_k L_k) (1 - w_c) p_c / sum_k (1 - w_k) p_k``. It sums to one over the classes.

    Args:
        label: ``(B, *S)`` class indices; does not matter where the weights are 0.
        label_weight: ``(B, C)`` in [0, 1].
        probabilities: ``(B, *S, C)`` prediction of the segmentation network.
        known: ``(B, *S, 1)``; where it is 0 the prediction stands. None is 1 for all.

    Returns:
        ``(B, *S, C)`` probabilities.
    """
    weight = per_class(label_weight, probabilities)
    labelled = weight * one_hot(label, probabilities.shape[-1])
    rest = (1 - weight) * probabilities
    share = rest / tf.maximum(tf.reduce_sum(rest, axis=-1, keepdims=True), 1e-6)
    anatomy = labelled + (1 - tf.reduce_sum(labelled, axis=-1, keepdims=True)) * share
    return anatomy if known is None else known * anatomy + (1 - known) * probabilities


def known_part(anatomy: Tensor) -> tuple[Tensor, Tensor]:
    """What an anatomy with ignored voxels says after it was interpolated.

    Each of its values is a weighted mean over voxels of which the ignored ones have nothing to say: it becomes the mean
    over the others, where these have half of the weights at least.

    Args:
        anatomy: ``(B, *S, C)`` probabilities that were 0 for all classes in ignored voxels before the interpolation.

    Returns:
        ``(B, *S, C)`` probabilities, and ``(B, *S, 1)``: 1 where they are known, else 0.
    """
    share = tf.reduce_sum(anatomy, axis=-1, keepdims=True)
    return anatomy / tf.maximum(share, 0.5), tf.cast(share >= 0.5, anatomy.dtype)


def per_class(weight: Tensor, probabilities: Tensor) -> Tensor:
    """Reshape ``(B, C)`` to ``(B, 1, ..., 1, C)``, to be multiplied with ``probabilities (B, *S, C)``."""
    spatial = (1,) * (len(probabilities.shape) - 2)
    return tf.reshape(weight, (-1, *spatial, probabilities.shape[-1]))


def per_example(value: Tensor, like: Tensor) -> Tensor:
    """Reshape ``(B,)`` to ``(B, 1, ..., 1)``, to be combined with ``like (B, ...)``."""
    return tf.reshape(value, (-1, *[1] * (len(like.shape) - 1)))
