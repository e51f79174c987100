"""What is served: the networks with the rescaling of intensities, as a TensorFlow module without Keras objects."""

import contextlib
from collections.abc import Callable, Iterator

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.scans.intensity import PERCENTILES
from deepatlas_tf.types import Tensor

PER_MILLE = tuple(round(10 * percentile) for percentile in PERCENTILES)


def rescale(image: Tensor) -> Tensor:
    """:func:`deepatlas_tf.scans.intensity.rescale` for each channel of each image: ``(B, *S, K)``, then in [0, 1]."""
    channels = tf.split(image, image.shape[-1], axis=-1)
    return tf.concat([_rescaled(channel) for channel in channels], axis=-1)


def _rescaled(image: Tensor) -> Tensor:
    flat = tf.reshape(image, (tf.shape(image)[0], -1))  # (B, voxels)
    inside = flat != 0
    count = tf.reduce_sum(tf.cast(inside, tf.int32), axis=1)
    ascending = tf.sort(tf.where(inside, flat, flat.dtype.max), axis=1)  # the zeros come last
    low, high = (_percentile(ascending, count, per_mille) for per_mille in PER_MILLE)
    lowest, highest = tf.reduce_min(flat, axis=1), tf.reduce_max(flat, axis=1)
    usable = tf.logical_and(count > 0, high > low)
    low, high = tf.where(usable, low, lowest), tf.where(usable, high, highest)
    constant = tf.logical_not(high > low)
    size = tf.where(constant, tf.ones_like(high), high - low)
    scaled = tf.clip_by_value((flat - low[:, None]) / size[:, None], 0.0, 1.0)
    return tf.reshape(tf.where(constant[:, None], tf.zeros_like(flat), scaled), tf.shape(image))


def finite(image: Tensor, name: str) -> Tensor:
    """``image`` as it is; the request fails with one line that names the input where a voxel is NaN or infinite."""
    return tf.debugging.check_numerics(
        image, f"{name}: every voxel must be a finite number; replace those that are not"
    )


def _percentile(ascending: Tensor, count: Tensor, per_mille: int) -> Tensor:
    """NumPy's linear percentile of the first ``count (B,)`` values of each row of ``ascending (B, N)``.

    The position ``(count - 1) * per_mille / 1000`` is found in integers: float32 does not hold it for large images.
    """
    last = tf.maximum(count - 1, 0)
    remainder = last % 1000 * per_mille
    lower = last // 1000 * per_mille + remainder // 1000
    share = tf.cast(remainder % 1000, ascending.dtype) / 1000
    below = tf.gather(ascending, lower, axis=1, batch_dims=1)
    above = tf.gather(ascending, tf.minimum(lower + 1, last), axis=1, batch_dims=1)
    return below + share * (above - below)


class Served(tf.Module):
    """The networks of a run as functions with one signature each.

    ``segment(image)`` -> labels (B, *S) int32, probabilities (B, *S, C). ``register(moving, fixed)`` -> warped
    (B, *S, K), in the moving image's own intensities, and displacement (B, *S, D) in voxels. Images are
    (B, *S, K) float32 of any size, with the K channels of the networks. ``segment_rescaled`` and ``register_rescaled``
    take images in [0, 1].

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

        def checked(*images):
            return function(*(finite(image, one) for image, one in zip(images, inputs, strict=True)))

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
