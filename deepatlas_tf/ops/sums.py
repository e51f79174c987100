"""Sums over voxels, in the form that is fastest on the device at hand; each was measured on a CPU."""

from deepatlas_tf.keras_stack import tf


def voxel_sums(x):
    """Sum of ``(B, *S, C)`` over the voxels: ``(B, C)``."""
    if on_gpu():
        return tf.reduce_sum(x, axis=list(range(1, x.shape.rank - 1)))
    # As a matrix product, since XLA's sum is several times slower; a GPU might round a product to TF32
    by_example = tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
    return tf.matmul(tf.ones_like(by_example[:, :, :1]), by_example, transpose_a=True)[:, 0]


def class_sums(values, classes, n_classes: int):
    """Sum of ``values (K, B, *S)`` over the voxels of each class ``(K, B, *S)``: ``(B, C)`` float32."""
    n_bins = tf.shape(classes)[1] * n_classes
    return tf.reshape(bin_sums(values, class_bins(classes, n_classes), n_bins), (-1, n_classes))


def class_bins(classes, n_classes):
    """One number for each example and class of ``(K, B, *S)``: the row of ``(B * C,)``."""
    example = tf.reshape(tf.range(tf.shape(classes)[1]), (-1, *[1] * (classes.shape.rank - 2)))
    return classes + n_classes * example


def bin_sums(values, bins, n_bins):
    """Sums ``(n_bins,)`` of the values of each bin; in double precision, so that the order of threads does not show."""
    values, bins = tf.reshape(tf.cast(values, tf.float64), [-1]), tf.reshape(bins, [-1])
    if on_gpu():  # where the other has no kernel; on a CPU this one takes 50 times as long
        sums = tf.math.unsorted_segment_sum(values, bins, n_bins)
    else:
        sums = tf.raw_ops.Bincount(arr=bins, size=n_bins, weights=values)
    return tf.cast(sums, tf.float32)


def place_sums(values, places, n_places):
    """Sums ``(n_places,)`` of what belongs to each place, float32, for about as many places as values, an even number.

    On a CPU each half is added up by one thread, so that the order of threads does not show in single precision either.
    """
    if on_gpu():
        return bin_sums(values, places, n_places)
    halves = [tf.unstack(tf.reshape(x, (2, 1, -1))) for x in (places, values)]
    counted = [
        tf.raw_ops.DenseBincount(input=places, size=n_places, weights=values, binary_output=False)
        for places, values in zip(*halves, strict=True)
    ]
    return tf.reshape(tf.add_n(counted), [-1])


def on_gpu() -> bool:
    """Whether what runs now has a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))
