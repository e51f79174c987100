"""The velocity field inside a diffeomorphic registration network."""

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.layers import VecInt


def split_integration(net: keras.Model) -> tuple[keras.Model, VecInt | None]:
    """The network without its last layer, if that is a :class:`VecInt`, and that layer.

    The first part gives the velocity field of a diffeomorphic network, and shares its weights: ``net(x)`` is
    ``integrate(head(x))``, and ``integrate(-head(x))`` the inverse of the deformation (Dalca et al., MedIA 2019). Of
    any other network, a Keras subclass for example, it is the network itself.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, 1) -> u (B, *S, D)``.

    Returns:
        ``head, integrate``; ``integrate`` is None where the network gives a displacement field directly.
    """
    last = net.layers[-1] if getattr(net, "outputs", None) else None
    if isinstance(last, VecInt) and last.output is net.outputs[0]:
        return keras.Model(net.inputs, last.input, name="velocity"), last
    return net, None
