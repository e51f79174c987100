"""What is served: the networks with the rescaling of intensities, as a TensorFlow module without Keras objects."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.scans.intensity import PERCENTILES
from deepatlas_tf.types import Tensor

TOLERANCE = 1e-3  # of values in [0, 1]: interpolation rounds
HALVINGS = 64  # of the range of values; float32 has 24 bits, the others are for values near 0
PER_MILLE = tuple(round(10 * percentile) for percentile in PERCENTILES)


def rescale(image: Tensor) -> Tensor:
    """:func:`deepatlas_tf.scans.intensity.rescale` for each channel of each image: ``(B, *S, K)``, then in [0, 1]."""
    channels = tf.split(image, image.shape[-1], axis=-1)
    return tf.concat([_rescaled(channel) for channel in channels], axis=-1)


def _rescaled(image: Tensor) -> Tensor:
    flat = tf.reshape(image, (tf.shape(image)[0], -1))  # (B, voxels)
    inside = flat != 0
    count = tf.reduce_sum(tf.cast(inside, tf.int32), axis=1)
    lowest, highest = tf.reduce_min(flat, axis=1), tf.reduce_max(flat, axis=1)
    values = tf.where(inside, flat, flat.dtype.max)  # the zeros come last
    low, high = (_percentile(values, count, per_mille, lowest, highest) for per_mille in PER_MILLE)
    usable = tf.logical_and(count > 0, high > low)
    low, high = tf.where(usable, low, lowest), tf.where(usable, high, highest)
    constant = tf.logical_not(high > low)
    size = tf.where(constant, tf.ones_like(high), high - low)
    scaled = tf.clip_by_value((flat - low[:, None]) / size[:, None], 0.0, 1.0)
    return tf.reshape(tf.where(constant[:, None], tf.zeros_like(flat), scaled), tf.shape(image))


def of_form(image: Tensor, name: str) -> Tensor:
    """``image`` as it is; the request fails with one line that names the input where it is not of its static form.

    That is the number of axes, and of channels on the last one: a server does not compare them with the signature.
    """
    n_axes, n_channels = image.shape.rank, image.shape[-1]
    # TensorFlow takes the static form for granted: a check of the image itself would be dropped
    given = tf.shape(tf.raw_ops.PlaceholderWithDefault(input=image, shape=tf.TensorShape(None)))
    right = tf.logical_and(tf.equal(tf.size(given), n_axes), tf.reduce_all(tf.equal(given[-1:], n_channels)))
    axes = f"{n_axes} axes (batch, {', '.join('xyz'[: n_axes - 2])}, channel)"
    channels = "one channel" if n_channels == 1 else f"{n_channels} channels"
    return _required(right, f"{name}: {axes} with {channels} are needed; the shape given is", [given], [image])[0]


def of_one_shape(images: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """``images`` as they are; the request fails with one line that names them where their shapes differ."""
    shapes = [tf.shape(image) for image in images]
    equal = tf.reduce_all([tf.reduce_all(tf.equal(shape, shapes[0])) for shape in shapes])
    text = f"{' and '.join(names)}: images of one shape are needed; the shapes given are"
    return _required(equal, text, shapes, images)


def in_unit_range(image: Tensor, name: str, signature: str) -> Tensor:
    """``image`` as it is; the request fails with one line that names the input where a voxel is not in [0, 1].

    ``signature``: the one that takes images of any values.
    """
    ends = [tf.reduce_min(image), tf.reduce_max(image)]
    inside = tf.logical_and(ends[0] >= -TOLERANCE, ends[1] <= 1 + TOLERANCE)
    text = f"{name}: values from 0 to 1 are needed, the signature {signature} rescales others; the range given is"
    return _required(inside, text, ends, [image])[0]


def _required(condition: Tensor, text: str, data: Sequence[Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """``images`` as they are; the request fails with ``text`` and ``data`` where the condition does not hold."""
    # of tf.raw_ops, as that of tf.debugging puts floating-point numbers into a branch, which not every server has
    check = tf.raw_ops.Assert(condition=condition, data=[tf.constant(text), *data], summarize=8)
    with tf.control_dependencies([check]):
        return [tf.identity(image) for image in images]


def finite(image: Tensor, name: str) -> Tensor:
    """``image`` as it is; the request fails with one line that names the input where a voxel is NaN or infinite."""
    return tf.debugging.check_numerics(
        image, f"{name}: every voxel must be a finite number; replace those that are not"
    )


def _percentile(values: Tensor, count: Tensor, per_mille: int, lowest: Tensor, highest: Tensor) -> Tensor:
    """NumPy's linear percentile of the ``count (B,)`` least values of each row of ``values (B, N)``.

    The position ``(count - 1) * per_mille / 1000`` is found in integers: float32 does not hold it for large images.
    ``lowest``, ``highest`` (B,): between which the ``count`` values lie.
    """
    last = tf.maximum(count - 1, 0)
    remainder = last % 1000 * per_mille
    rank = last // 1000 * per_mille + remainder // 1000
    share = tf.cast(remainder % 1000, values.dtype) / 1000
    below = _value_of_rank(values, rank, lowest, highest)
    is_next = tf.logical_or(_how_many(values, below) > rank + 1, rank == last)
    above = tf.where(is_next, below, _least_above(values, below))
    return below + share * (above - below)


def _value_of_rank(values: Tensor, rank: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The value with ``rank (B,)`` others before it in ascending order, in each row of ``values (B, N)``.

    The range from ``low`` to ``high`` (B,), in which it lies, is halved until no other value is left in it. A sort
    takes longer for the millions of voxels of a scan, and in OpenVINO its time grows with their square.
    """

    def halve(step: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = low / 2 + high / 2
        enough = _how_many(values, middle) > rank
        return step + 1, tf.where(enough, low, middle), tf.where(enough, middle, high)

    _, under, _ = tf.while_loop(lambda step, *_: step < HALVINGS, halve, (tf.constant(0), low, high))
    return tf.where(_how_many(values, under) > rank, under, _least_above(values, under))


def _how_many(values: Tensor, limit: Tensor) -> Tensor:
    """How many values of each row ``(B, N)`` are at most ``limit (B,)``: ``(B,)`` int32."""
    return tf.reduce_sum(tf.cast(values <= limit[:, None], tf.int32), axis=1)


def _least_above(values: Tensor, limit: Tensor) -> Tensor:
    """The least value of each row ``(B, N)`` above ``limit (B,)``: ``(B,)``; the largest float where there is none."""
    return tf.reduce_min(tf.where(values > limit[:, None], values, values.dtype.max), axis=1)


class Served(tf.Module):
    """The networks of a run as functions with one signature each.

    ``segment(image)`` -> labels (B, *S) int32, probabilities (B, *S, C). ``register(moving, fixed)`` -> warped
    (B, *S, K), in the moving image's own intensities, and displacement (B, *S, D) in voxels. Images are
    (B, *S, K) float32 of any size, with the K channels of the networks. ``segment_rescaled`` and ``register_rescaled``
    take images in [0, 1]. A request with another number of axes or channels, a pair of two shapes, or a voxel that is
    not finite or not in [0, 1] there, fails with a line that names the input.

    Args:
        n_axes: D.
        segmentation: Keras model ``image -> probabilities`` for any size, or None.
        registration: Keras model ``[moving, fixed] -> u`` for any size, or None.
    """

    def __init__(self, n_axes: int, segmentation: keras.Model | None = None, registration: keras.Model | None = None):
        super().__init__()
        # The variables alone are kept: a Keras model would be saved layer by layer, and need its classes to be loaded
        nets = [net for net in (segmentation, registration) if net is not None]
        self.weights = [weight for net in nets for weight in net.weights]
        self._image = (None, *[None] * n_axes, nets[0].inputs[0].shape[-1])
        self.functions: dict[str, Callable] = {}
        if segmentation is not None:
            self._add_segment(segmentation)
        if registration is not None:
            self._add_register(registration)
        self.functions["serving_default"] = next(iter(self.functions.values()))

    def _add_segment(self, net: keras.Model) -> None:
        def segment(image):
            probabilities = net(image, training=False)
            labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
            return {"labels": labels, "probabilities": probabilities}

        self._add("segment", lambda image: segment(rescale(image)), "image")
        self._add("segment_rescaled", segment, "image")

    def _add_register(self, net: keras.Model) -> None:
        def register(moving, fixed):
            u = net([moving, fixed], training=False)
            return {"displacement": u, "warped": warp(moving, u)}

        def register_raw(moving, fixed):
            u = net([rescale(moving), rescale(fixed)], training=False)
            return {"displacement": u, "warped": warp(moving, u)}

        self._add("register", register_raw, "moving", "fixed")
        self._add("register_rescaled", register, "moving", "fixed")

    def _add(self, name: str, function: Callable, *inputs: str) -> None:
        specs = [tf.TensorSpec(self._image, tf.float32, name=one) for one in inputs]
        of_any_values = name.removesuffix("_rescaled")

        def checked(*given):
            formed = [of_form(image, one) for image, one in zip(given, inputs, strict=True)]
            images = [finite(image, one) for image, one in zip(of_one_shape(formed, inputs), inputs, strict=True)]
            if name != of_any_values:
                images = [in_unit_range(image, one, of_any_values) for image, one in zip(images, inputs, strict=True)]
            return function(*images)

        with _functions_inlined():
            self.functions[name] = graph_function(checked).get_concrete_function(*specs)


@contextlib.contextmanager
def _functions_inlined() -> Iterator[None]:
    """The warp is a function compiled by XLA; here it becomes part of the graph that calls it.

    Not every server has XLA, and it would compile again for each size of image.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
