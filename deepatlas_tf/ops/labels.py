"""Label maps as probabilities."""

from deepatlas_tf.keras_stack import tf


def one_hot(label, n_classes: int):
    """One-hot encoding of a label map: ``(B, *S)`` class indices -> ``(B, *S, C)`` float32."""
    return tf.one_hot(label, n_classes, dtype=tf.float32)


def mix(label, label_weight, probabilities):
    """Anatomy of a sample: ``w * onehot(label) + (1 - w) * probabilities``.

    Args:
        label: ``(B, *S)`` class indices; does not matter where the weight is 0.
        label_weight: ``(B,)`` in [0, 1].
        probabilities: ``(B, *S, C)`` prediction of the segmentation network.
    """
    weight = tf.reshape(label_weight, (-1,) + (1,) * (probabilities.shape.rank - 1))
    return weight * one_hot(label, probabilities.shape[-1]) + (1 - weight) * probabilities
