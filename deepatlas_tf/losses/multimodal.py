"""Dissimilarity of two images of different contrast. Each returns one value for each example, ``(B,)`` float32.

The images have intensities in [0, 1], like those of a :class:`~deepatlas_tf.types.Sample`.
"""

import itertools

from deepatlas_tf.keras_stack import graph_function, tf
from deepatlas_tf.ops.compiled import compiled
from deepatlas_tf.ops.filters import box_sum
from deepatlas_tf.types import Tensor

# Number of voxels whose Parzen windows are in memory at a time: 8 MB for each image with 32 bins
_CHUNK = 1 << 16


@compiled
def mutual_information(warped: Tensor, fixed: Tensor, n_bins: int = 32, sigma: float = 0.5) -> Tensor:
    """Minus the mutual information in nats, from a Parzen-window joint histogram (Viola & Wells 1997).

    ``-sum_ij P_ij log(P_ij / (P_i. P_.j))`` with ``P_ij = mean_x w_i(a(x)) w_j(b(x))``. The bins' centres are spread
    evenly over [0, 1]; the window of a voxel is a Gaussian of the distance to them, normalised over the bins, so that
    each voxel counts once (values outside [0, 1] count for the outermost bin) and the value is exactly that of the
    soft histogram: at most 0, and 0 for a constant image. All voxels are used. The windows are computed for a part of
    the voxels at a time, in the gradient again, so that memory does not grow with ``n_bins * V``.

    voxelmorph's ``MutualInformation`` gives the same value for windows that are normalised; its own are not.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
        n_bins: number of bins for each image.
        sigma: standard deviation of the Gaussian window, in bins.
    """
    a, b = _flat(warped, fixed)
    return _minus_mutual_information(_joint_histogram(a, b, n_bins, sigma))


def plain_mutual_information(warped: Tensor, fixed: Tensor, n_bins: int = 32, sigma: float = 0.5) -> Tensor:
    """The definition of :func:`mutual_information`, with the windows of all voxels at once."""
    a, b = _flat(warped, fixed)
    joint = tf.matmul(_parzen_windows(a, n_bins, sigma), _parzen_windows(b, n_bins, sigma), transpose_a=True)
    return _minus_mutual_information(joint / tf.cast(tf.shape(a)[1], a.dtype))


def _flat(warped, fixed):
    """The two images ``(B, *S, 1)`` as ``(B, V)``."""
    return [tf.reshape(image, (tf.shape(image)[0], -1)) for image in (warped, fixed)]


def _minus_mutual_information(joint):
    """Minus the mutual information, ``(B,)``, of joint probabilities ``(B, n_bins, n_bins)``."""
    entropy_a = _entropy(tf.reduce_sum(joint, axis=2), axes=[1])
    entropy_b = _entropy(tf.reduce_sum(joint, axis=1), axes=[1])
    return _entropy(joint, axes=[1, 2]) - entropy_a - entropy_b


@graph_function  # not compiled by XLA as a whole, which computes the distances anew wherever they are used
def mind_ssc(warped: Tensor, fixed: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """Mean squared difference of two MIND-SSC descriptors (Heinrich et al., MICCAI 2013); in [0, 1].

    The descriptor of a voxel compares its neighbours with each other: of the ``2D`` neighbours at distance ``dilation``
    along the axes, each pair on different axes (12 in 3D, 4 in 2D) has a channel ``k``. ``d_k`` is the mean squared
    difference of the patches around the two neighbours, and the channel's value is ``exp(-(d_k - min_k d_k) / v)`` with
    ``v = mean_k (d_k - min_k d_k)``, held between 0.001 and 1000 times its mean over the image (and above 1e-6, so that
    a constant image has the descriptor 1). Outside the image the nearest voxel counts.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
        radius: a patch has ``2 radius + 1`` voxels a side.
        dilation: distance of the neighbours in voxels.
    """
    difference = _self_similarity(warped, radius, dilation) - _self_similarity(fixed, radius, dilation)
    return tf.reduce_mean(difference * difference, axis=list(range(1, warped.shape.rank)))


@compiled
def ngf(warped: Tensor, fixed: Tensor, edge: float = 0.02) -> Tensor:
    """Distance of the normalised gradient fields (Haber & Modersitzki, MICCAI 2006); in [0, 1].

    ``1 - mean_x (<grad a, grad b> + e^2)^2 / ((|grad a|^2 + e^2) (|grad b|^2 + e^2))`` with central differences, in
    the form of König & Rühaak (ISBI 2014): two patches without an edge count as a match. Edges that point in opposite
    directions, as between two contrasts, count as a match too.

    Args:
        warped: ``(B, *S, 1)``.
        fixed: ``(B, *S, 1)``.
        edge: ``e``, about the noise level: a larger difference of intensity from one voxel to the next is an edge.
    """
    a, b = _central_gradient(warped), _central_gradient(fixed)  # (B, *S - 2, D)
    product = tf.reduce_sum(a * b, axis=-1) + edge**2
    norm_a, norm_b = (tf.reduce_sum(x * x, axis=-1) + edge**2 for x in (a, b))
    return 1 - tf.reduce_mean((product / norm_a) * (product / norm_b), axis=list(range(1, product.shape.rank)))


def _joint_histogram(a, b, n_bins, sigma):
    """Joint probabilities ``(B, n_bins, n_bins)`` of two images ``(B, V)``."""
    n_voxels = tf.cast(tf.shape(a)[1], a.dtype)
    counted = _chunks(tf.ones_like(a))  # 0 for the padding of the last chunk
    shape = (tf.shape(a)[0], n_bins, n_bins)

    def count(chunk):
        part_a, part_b, part_counted = chunk
        windows_a, windows_b = (_parzen_windows(part, n_bins, sigma) for part in (part_a, part_b))
        return tf.matmul(windows_a * part_counted[..., None], windows_b, transpose_a=True)

    # The gradient is written out, because that of a loop would keep the windows of all voxels
    @tf.custom_gradient
    def total(a, b):
        def backward(upstream):
            def grad_chunk(chunk):
                with tf.GradientTape() as tape:
                    tape.watch(chunk[:2])
                    part = count(chunk)
                return tuple(tape.gradient(part, chunk[:2], output_gradients=upstream))

            return tf.map_fn(grad_chunk, (a, b, counted), fn_output_signature=(a.dtype, b.dtype), parallel_iterations=1)

        add = lambda so_far, chunk: so_far + count(chunk)  # noqa: E731
        zeros = tf.zeros(shape, a.dtype)
        return tf.foldl(add, (a, b, counted), initializer=zeros, parallel_iterations=1), backward

    return total(_chunks(a), _chunks(b)) / n_voxels


def _parzen_windows(x, n_bins, sigma):
    """Window of each voxel ``(B, V)`` over the bins, which sums to 1: ``(B, V, n_bins)``."""
    centres = tf.cast(tf.linspace(0.0, 1.0, n_bins), x.dtype)
    return tf.nn.softmax(-0.5 * ((x[..., None] - centres) * ((n_bins - 1) / sigma)) ** 2)


def _chunks(x):
    """Cut ``(B, V)`` into chunks ``(V / chunk, B, chunk)``, the last one padded with zeros."""
    n_voxels = x.shape[1] or tf.shape(x)[1]
    padded = tf.pad(x, [[0, 0], [0, -n_voxels % min(_CHUNK, n_voxels)]])
    return tf.transpose(tf.reshape(padded, (tf.shape(x)[0], -1, min(_CHUNK, n_voxels))), (1, 0, 2))


def _entropy(probability, axes):
    """``-sum p log p`` over the axes, in nats."""
    return -tf.reduce_sum(tf.math.xlogy(probability, probability), axis=axes)


def _self_similarity(image, radius, dilation):
    """MIND-SSC descriptor of ``(B, *S, 1)``: ``(B, *S, K)``, K = 12 in 3D and 4 in 2D."""
    n_axes = image.shape.rank - 2
    vectors = [(i, j, sign) for i, j in itertools.combinations(range(n_axes), 2) for sign in (1, -1)]
    distances = _patch_distances(image, vectors, radius, dilation)  # (B, *S + 2 dilation, K / 2)
    here = [dilation] * n_axes
    channels = []
    for index, (i, j, sign) in enumerate(vectors):
        one = distances[..., index : index + 1]
        # Two pairs of neighbours are the same vector apart: from -e_i to sign e_j, and from -sign e_j to e_i
        channels.append(_cut(one, _moved(here, i, -dilation), dilation))
        channels.append(_cut(one, _moved(here, j, -sign * dilation), dilation))
    distance = tf.concat(channels, axis=-1)
    distance -= tf.reduce_min(distance, axis=-1, keepdims=True)
    variance = tf.reduce_mean(distance, axis=-1, keepdims=True)
    typical = tf.reduce_mean(variance, axis=list(range(1, distance.shape.rank)), keepdims=True)
    variance = tf.maximum(tf.minimum(tf.maximum(variance, 0.001 * typical), 1000 * typical), 1e-6)
    return tf.exp(-distance / variance)


def _patch_distances(image, vectors, radius, dilation):
    """Mean squared difference of the patches around ``y`` and ``y + dilation (e_i + sign e_j)``.

    Returns:
        One channel for each vector ``(i, j, sign)``, for each ``y`` in the image and ``dilation`` voxels around the
        image: ``(B, *S + 2 dilation, len(vectors))``.
    """
    n_axes = image.shape.rank - 2
    padded = _pad_with_nearest(image, 2 * dilation + radius)
    here = [dilation] * n_axes
    squared = []
    for i, j, sign in vectors:
        there = _moved(_moved(here, i, dilation), j, sign * dilation)
        squared.append(tf.math.squared_difference(_cut(padded, here, dilation), _cut(padded, there, dilation)))
    patch = 2 * radius + 1
    return _cut(box_sum(tf.concat(squared, axis=-1), patch), [radius] * n_axes, radius) / patch**n_axes


def _moved(position, axis, by):
    """The position, a list of one index for each axis, moved along one axis."""
    return [p + by if a == axis else p for a, p in enumerate(position)]


def _central_gradient(image):
    """Gradient ``(B, *S - 2, D)`` of images ``(B, *S, 1)`` by central differences, without the voxels at the border."""
    n_axes = image.shape.rank - 2
    parts = []
    for axis in range(n_axes):
        after, before = (_cut(image, _moved([1] * n_axes, axis, side), 1) for side in (1, -1))
        parts.append((after - before) / 2)
    return tf.concat(parts, axis=-1)


def _pad_with_nearest(x, width):
    """Pad each spatial axis by ``width`` voxels on both sides, with the value of the nearest voxel."""
    for _ in range(width):  # one voxel of TensorFlow's symmetric padding repeats the border
        x = tf.pad(x, [[0, 0], *[[1, 1]] * (x.shape.rank - 2), [0, 0]], mode="SYMMETRIC")
    return x


def _cut(x, starts, padding):
    """The part of an image padded by ``padding`` on all sides that begins at ``starts`` and has the image's size."""
    sizes = tf.shape(x)[1:-1] - 2 * padding
    index = [slice(start, start + sizes[axis]) for axis, start in enumerate(starts)]
    return x[(slice(None), *index)]
