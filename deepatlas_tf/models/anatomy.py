"""A registration network that sees the anatomy: a segmentation network becomes a part of it.

The network still maps ``[moving, fixed]`` to a field. What the segmentation network predicts for both images is a
second force of its demons, beside that of the images (:mod:`deepatlas_tf.models.registration.learned_demons`): one
network helps the other not only by the loss, as in DeepAtlas, but also in every registration, without a label. That
predicted anatomy helps a registration at test time is known from instance optimisation (Siebert, Hansen & Heinrich,
Learn2Reg 2021); here it costs one pass.

The segmentation network within is a copy that is not trained any more. How much its force counts before the network has
learned from it is set by :func:`set_anatomy_gain`, and chosen by :mod:`deepatlas_tf.training.anatomy`.
"""

import numpy as np

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.build import computing_in
from deepatlas_tf.models.registration.learned_demons import LocalNormalisation, learned_demons_net

LEVEL = "level"  # the names of the levels of learned demons begin so


def can_see_anatomy(net: keras.Model) -> bool:
    """Whether a registration network is one of learned demons, which can have a second force."""
    return isinstance(net, keras.Model) and bool(_levels(net)) and any(map(_is_normalisation, net.layers))


@as_written
def with_anatomy(net: keras.Model, segmentation: keras.Model) -> keras.Model:
    """A network of learned demons that also has the force of the anatomy, with the weights of ``net``.

    The new force has no weight yet, so that the field is that of ``net``. A network that has both forces already keeps
    its weights, and another segmentation network takes the place of its own. It computes in the precision of ``net``.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)``, see :func:`can_see_anatomy`.
        segmentation: Keras model ``image (B, *S, K) -> class probabilities (B, *S, C)``, which is not trained any more.
    """
    levels = _levels(net)
    n_axes, names = net.outputs[0].shape[-1], {layer.name for layer in net.layers}
    steps = [sum(name.startswith(f"{level.name}_") and name.endswith("_warp") for name in names) for level in levels]
    window = next(layer.window for layer in net.layers if _is_normalisation(layer))
    first = levels[0].get_layer(f"{LEVEL}0_convolution0")
    shape, channels = net.inputs[0].shape[1:-1], net.inputs[0].shape[-1]
    segmentation.trainable = False
    with computing_in(first.dtype_policy.name):
        made = learned_demons_net(shape, steps, first.filters, window, channels, segmentation)
    for level in levels:
        target = made.get_layer(level.name)
        for layer in filter(lambda layer: layer.weights, level.layers):
            new = target.get_layer(layer.name)
            pairs = zip(layer.get_weights(), new.weights, strict=True)
            new.set_weights([_widened(old, tuple(weight.shape), n_axes) for old, weight in pairs])
    return made


def set_anatomy_gain(net: keras.Model, gain: float) -> None:
    """Let the force of the anatomy count ``gain`` times as much as that of the images, smoothed in the same way."""
    n_axes = net.outputs[0].shape[-1]
    for level in _levels(net):
        layer = level.get_layer(f"{level.name}_smooth")
        (kernel,) = layer.get_weights()
        kernel[..., n_axes : 2 * n_axes, :] = gain * kernel[..., :n_axes, :]
        layer.set_weights([kernel])


def learns_anatomy(net: keras.Model) -> bool:
    """Whether the force of the anatomy, which a network has, counts already."""
    n_axes = net.outputs[0].shape[-1]
    kernels = [level.get_layer(f"{level.name}_smooth").get_weights()[0] for level in _levels(net)]
    return any(kernel[..., n_axes : 2 * n_axes, :].any() for kernel in kernels)


def _levels(net: keras.Model) -> list[keras.Model]:
    """The networks that the steps of each level share, full resolution first."""
    found = [layer for layer in net.layers if isinstance(layer, keras.Model) and layer.name.startswith(LEVEL)]
    return sorted(found, key=lambda level: int(level.name.removeprefix(LEVEL)))


def _is_normalisation(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, LocalNormalisation)


def _widened(old: np.ndarray, shape: tuple[int, ...], n_axes: int) -> np.ndarray:
    """The weights of a convolution with input channels for the second force, which are 0, after those of the first."""
    if old.shape == shape:
        return old
    force, others = np.split(old, [n_axes], axis=-2)
    return np.concatenate([force, np.zeros_like(force), others], axis=-2)
