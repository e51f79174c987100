"""What a method refuses before it trains: networks in each other's place, and batches that have another form."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.network import ROLES, interface
from deepatlas_tf.types import DataError, SettingError

PAGE = "docs/conventions.md#arrays"
FORMS = {
    "image": ("float32", "(B, *S, K)"),
    "label": ("int32", "(B, *S)"),
    "label_weight": ("float32", "(B, C)"),
    "soft_label": ("float32", "(B, *S, C)"),
    "voxel_weight": ("float32", "(B, *S, 1)"),
    "known": ("float32", "(B, *S, 1)"),
}
"""Type and shape of the entries of a batch of samples, see :class:`deepatlas_tf.types.Sample`."""

NEEDED = ("image", "label", "label_weight")


def check_nets(method: str, nets: Mapping[str, keras.Model], roles: Mapping[str, str]) -> None:
    """Raise SettingError where a network takes another number of images than its role needs, or gives no field.

    A subclass of ``keras.Model`` that was never called does not know it yet, and is not checked; nor is what such a
    network gives.

    Args:
        method: the name of the class, for the message.
        nets: by name.
        roles: name -> one of :data:`~deepatlas_tf.models.network.ROLES`; other names are not checked.
    """
    order = f"{method} takes {', '.join(roles)}, in this order"
    for name, role in roles.items():
        shapes = _input_shapes(nets[name]) if name in nets and role in ROLES else []
        if not shapes or shapes[0].rank is None:
            continue
        n_axes = shapes[0].rank - 2
        needed = interface(role, n_axes, n_classes=0)
        if len(shapes) != needed.images:
            raise SettingError(f"the {name} network takes {len(shapes)} image(s), {needed.images} needed: {order}")
        outputs = getattr(nets[name], "outputs", None) or []
        if needed.kind == "registration" and outputs and outputs[0].shape[-1] not in (None, n_axes):
            raise SettingError(
                f"the {name} network gives {outputs[0].shape[-1]} channels, and a displacement field of {n_axes} axes "
                f"has {n_axes} components: {order}"
            )


def check_batches(spec: Any, stream: str, labelled: Collection[str]) -> None:
    """Raise DataError where the batches of a ``tf.data`` lack an entry, or one has another type or number of axes.

    Args:
        spec: ``element_spec`` of the data set.
        stream: ``"samples"`` or ``"pairs"``; of another one nothing is checked.
        labelled: sides of a pair whose label maps are used; those of samples always are.
    """
    if stream not in ("samples", "pairs"):
        return
    sides = ("moving", "fixed") if stream == "pairs" else ()
    if not isinstance(spec, Mapping) or not set(sides) <= set(spec):
        form = "pairs, dictionaries of the samples moving and fixed" if sides else "samples, dictionaries of arrays"
        raise DataError(f"the data set has to give {form}, and gives {_given(spec)}; see {PAGE}")
    for side in sides:
        _check_sample(spec[side], f"{side} ", NEEDED if side in labelled else NEEDED[:1])
    if not sides:
        _check_sample(spec, "", NEEDED)


def _check_sample(spec: Any, side: str, needed: Collection[str]) -> None:
    if not isinstance(spec, Mapping):
        raise DataError(f"{side}has to be a dictionary of {', '.join(needed)}, not {_given(spec)}; see {PAGE}")
    for name, problem in _problems(spec, needed):
        kind, shape = FORMS[name]
        raise DataError(f"{side}{name} of the batches {problem}, and {kind} {shape} is needed; see {PAGE}")


def _problems(spec: Mapping[str, Any], needed: Collection[str]) -> Iterator[tuple[str, str]]:
    """The entries that are missing or have another form, and what is wrong."""
    for name, (kind, _) in FORMS.items():
        if name not in spec:
            if name in needed:
                yield name, f"is missing ({_given(spec)} are there)"
            continue
        entry = spec[name]
        image = getattr(spec["image"], "shape", tf.TensorShape(None)).rank
        ranks = {"image": (4, 5), "label_weight": (2,), "label": (image and image - 1,)}.get(name, (image,))
        given = getattr(entry, "shape", tf.TensorShape(None)).rank
        if not isinstance(entry, tf.TensorSpec) or entry.dtype.name != kind:
            yield name, f"is {_given(entry)}"
        elif given is not None and image is not None and given not in ranks:
            yield name, f"is {_given(entry)}"


def _given(spec: Any) -> str:
    """What is there, in words: the keys of a dictionary, the type and shape of a tensor, else the name of the type."""
    if isinstance(spec, Mapping):
        return ", ".join(map(str, spec)) or "nothing"
    return f"{spec.dtype.name} {spec.shape}" if isinstance(spec, tf.TensorSpec) else f"a {type(spec).__name__}"


def _input_shapes(net: keras.Model) -> list[tf.TensorShape]:
    """The shapes of what a network takes; empty where it does not know them."""
    if getattr(net, "inputs", None):
        return [tensor.shape for tensor in net.inputs]
    spec = net.save_spec() if hasattr(net, "save_spec") else None
    return [] if spec is None or not spec[0] else [tensor.shape for tensor in tf.nest.flatten(spec[0][0])]
