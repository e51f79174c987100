"""A registration network that sees the anatomy: a segmentation network becomes a part of it.

The network still maps ``[moving, fixed]`` to a field. What the segmentation network predicts for both images is a
second force of its demons, beside that of the images (:mod:`deepatlas_tf.models.registration.learned_demons`): one
network helps the other not only by the loss, as in DeepAtlas, but also in every registration, without a label. That
predicted anatomy helps a registration at test time is known from instance optimisation (Siebert, Hansen & Heinrich,
Learn2Reg 2021); here it costs one pass.

The segmentation network within is a copy that is not trained any more.
"""

import numpy as np

from deepatlas_tf.keras_stack import as_written, keras
from deepatlas_tf.models.registration.learned_demons import BESIDE, LocalNormalisation, learned_demons_net

LEVEL = "level"  # the names of the levels of learned demons begin so


def can_see_anatomy(net: keras.Model) -> bool:
    """Whether a registration network is one of learned demons, which can have a second force."""
    return isinstance(net, keras.Model) and bool(_levels(net)) and any(map(_is_normalisation, net.layers))


@as_written
def with_anatomy(net: keras.Model, segmentation: keras.Model) -> keras.Model:
    """A network of learned demons that also has the force of the anatomy, with the weights of ``net``.

    What ``net`` has learned of the force of the images counts for both forces, each with 0.7 of its gain; the small
    network of its corrections begins without the second one. A network that has both forces already keeps its weights,
    and another segmentation network takes the place of its own.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)``, see :func:`can_see_anatomy`.
        segmentation: Keras model ``image (B, *S, K) -> class probabilities (B, *S, C)``, which is not trained any more.
    """
    levels = _levels(net)
    n_axes, names = net.outputs[0].shape[-1], {layer.name for layer in net.layers}
    steps = [sum(f"{level.name}_{k}_warp" in names for k in range(len(names))) for level in levels]
    window = next(layer.window for layer in net.layers if _is_normalisation(layer))
    width = levels[0].get_layer(f"{LEVEL}0_convolution0").filters
    shape, channels = net.inputs[0].shape[1:-1], net.inputs[0].shape[-1]
    segmentation.trainable = False
    made = learned_demons_net(shape, steps, width, window, channels, segmentation)
    for level in levels:
        target = made.get_layer(level.name)
        for layer in filter(lambda layer: layer.weights, level.layers):
            new = target.get_layer(layer.name)
            pairs = zip(layer.get_weights(), new.weights, strict=True)
            new.set_weights([_widened(old, tuple(weight.shape), n_axes, layer.name) for old, weight in pairs])
    return made


def _levels(net: keras.Model) -> list[keras.Model]:
    """The networks that the steps of each level share, full resolution first."""
    found = [layer for layer in net.layers if isinstance(layer, keras.Model) and layer.name.startswith(LEVEL)]
    return sorted(found, key=lambda level: int(level.name.removeprefix(LEVEL)))


def _is_normalisation(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, LocalNormalisation)


def _widened(old: np.ndarray, shape: tuple[int, ...], n_axes: int, name: str) -> np.ndarray:
    """The weights of a convolution with input channels for the second force after those of the first one."""
    if old.shape == shape:
        return old
    force, others = np.split(old, [n_axes], axis=-2)
    both = [BESIDE * force] * 2 if name.endswith("_smooth") else [force, np.zeros_like(force)]
    return np.concatenate([*both, others], axis=-2)
