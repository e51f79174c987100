"""The velocity field inside a diffeomorphic registration network."""

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.layers import VecInt


def split_integration(net: keras.Model) -> tuple[keras.Model, VecInt | None]:
    """Split a diffeomorphic registration network before its last layer, a :class:`VecInt`.

    The first part, ``head``, gives the velocity field and shares the weights of the network: ``net(x)`` is
    ``integrate(head(x))``, and ``integrate(-head(x))`` the inverse of the deformation (Dalca et al., MedIA 2019). Any
    other network, such as a subclass of ``keras.Model``, is not split: it is the ``head``.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, 1) -> u (B, *S, D)``.

    Returns:
        ``head, integrate``; ``integrate`` is None where the network gives a displacement field directly.
    """
    last = net.layers[-1] if getattr(net, "outputs", None) else None
    if isinstance(last, VecInt) and last.output is net.outputs[0]:
        return keras.Model(net.inputs, last.input, name="velocity"), last
    return net, None
