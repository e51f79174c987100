"""Sums over voxels, in the form that is fastest on the device at hand. Each form was measured on a CPU."""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.types import Tensor


def voxel_sums(x: Tensor) -> Tensor:
    """Sum of ``(B, *S, C)`` over the voxels: ``(B, C)``."""
    if on_gpu():
        return plain_voxel_sums(x)
    # As a matrix product, since XLA's sum is several times slower; a GPU might round a product to TF32
    by_example = tf.reshape(x, (tf.shape(x)[0], -1, x.shape[-1]))
    return tf.matmul(tf.ones_like(by_example[:, :, :1]), by_example, transpose_a=True)[:, 0]


def plain_voxel_sums(x: Tensor) -> Tensor:
    """The definition of :func:`voxel_sums`."""
    return tf.reduce_sum(x, axis=list(range(1, len(x.shape) - 1)))


def class_sums(values: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Sum of values over the voxels of each class, in double precision. It has no gradient.

    Args:
        values: ``(K, B, *S)``, ``K`` values for each voxel.
        classes: ``(K, B, *S)``, the class that each value belongs to.
        n_classes: ``C``.

    Returns:
        ``(B, C)`` float32.
    """
    n_bins = tf.shape(classes)[1] * n_classes
    return tf.reshape(bin_sums(values, class_bins(classes, n_classes), n_bins), (-1, n_classes))


def plain_class_sums(values: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """The definition of :func:`class_sums`, with a volume for each class."""
    by_class = values[..., None] * tf.one_hot(classes, n_classes, dtype=values.dtype)
    return tf.reduce_sum(by_class, axis=[0, *range(2, classes.shape.rank)])


def class_bins(classes: Tensor, n_classes: int) -> Tensor:
    """Row, in a table ``(B, C)`` reshaped to ``(B * C,)``, of the class ``(K, B, *S)`` of each example."""
    example = tf.reshape(tf.range(tf.shape(classes)[1]), (-1, *[1] * (classes.shape.rank - 2)))
    return classes + n_classes * example


def bin_sums(values: Tensor, bins: Tensor, n_bins: int | Tensor) -> Tensor:
    """Sum of the values that fall into each bin. It has no gradient.

    The sum is taken in double precision, so that the order in which threads add does not show in the result.

    Args:
        values: of any shape.
        bins: the bin of each value, of the same shape, integers from 0 to ``n_bins - 1``.
        n_bins: number of bins.

    Returns:
        ``(n_bins,)`` float32.
    """
    values, bins = tf.reshape(tf.cast(values, tf.float64), [-1]), tf.reshape(bins, [-1])
    if on_gpu():  # where Bincount has no kernel; on a CPU the segment sum takes 50 times as long
        sums = tf.math.unsorted_segment_sum(values, bins, n_bins)
    else:
        sums = tf.raw_ops.Bincount(arr=bins, size=n_bins, weights=values)
    return tf.cast(sums, tf.float32)


def plain_bin_sums(values: Tensor, bins: Tensor, n_bins: int) -> Tensor:
    """The definition of :func:`bin_sums` and of :func:`scatter_sums`, with one number for each value and bin."""
    values = tf.reshape(values, (-1, 1))
    return tf.reduce_sum(values * tf.one_hot(tf.reshape(bins, [-1]), n_bins, dtype=values.dtype), axis=0)


def scatter_sums(values: Tensor, rows: Tensor, n_rows: int | Tensor) -> Tensor:
    """Sum of the values that belong to each row: :func:`bin_sums` for about as many bins as values. It has no gradient.

    On a CPU each half of the values is added up by one thread in single precision, so that the result does not depend
    on the order of threads either.

    Args:
        values: an even number of values, of any shape.
        rows: the row of each value, of the same shape, integers from 0 to ``n_rows - 1``.
        n_rows: number of rows.

    Returns:
        ``(n_rows,)`` float32.
    """
    if on_gpu():
        return bin_sums(values, rows, n_rows)
    halves = [tf.unstack(tf.reshape(x, (2, 1, -1))) for x in (rows, values)]
    sums = [
        tf.raw_ops.DenseBincount(input=half_rows, size=n_rows, weights=half_values, binary_output=False)
        for half_rows, half_values in zip(*halves, strict=True)
    ]
    return tf.reshape(tf.add_n(sums), [-1])


def on_gpu() -> bool:
    """Whether this process has a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))
