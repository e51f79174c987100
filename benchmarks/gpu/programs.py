"""What is exported, as functions of tensors and variables: the turns of DeepAtlas, its networks and the warp."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple
from unittest import mock

from side_by_side.ours import deep_atlas

from benchmarks.gpu.given import INPUTS
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.ops.warp import warp

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # precision -> ``networks.precision``


class Program(NamedTuple):
    """function: of the tensors that ``specs`` names, in their order. variables: all that it may read or change."""

    function: Callable
    specs: dict[str, tf.TensorSpec]
    variables: dict[str, tf.Variable]


@contextlib.contextmanager
def as_on_a_gpu():
    """Within it functions are traced with the operations that the package takes where it has a GPU.

    Functions that were traced before for the same shapes stay as they are.
    """
    modules = [m for name, m in sys.modules.items() if name.startswith("deepatlas_tf.") and hasattr(m, "on_gpu")]
    with contextlib.ExitStack() as patches:
        for module in modules:
            patches.enter_context(mock.patch.object(module, "on_gpu", lambda: True))
        yield


def programs(shape: Sequence[int], n_classes: int, precision: str, widths: dict) -> dict[str, Program]:
    """Every program for images of ``shape`` by its name.

    Args:
        shape: ``S``, voxels along each axis.
        n_classes: ``C``.
        precision: a key of ``POLICIES``, for what the networks compute; for the warp, of image and gradient.
        widths: channels of the networks, as in ``side_by_side/rows.py``.
    """
    specs = _specs(shape, n_classes, tf.as_dtype(precision))
    method = _method(specs, n_classes, {**widths, "precision": POLICIES[precision]})
    nets = method.nets
    functions = {
        "registration_turn": partial(_turn, method, "registration"),
        "segmentation_turn": partial(_turn, method, "segmentation"),
        "register": lambda moving, fixed: nets["registration"]([moving, fixed], training=False),
        "segment": lambda image: nets["segmentation"](image, training=False),
        "warp": lambda image, u: warp(image, u),
        "warp_gradients": _warp_gradients,
    }
    variables = _variables(method)
    return {
        name: Program(function, {one: specs[one] for one in INPUTS[name]}, variables)
        for name, function in functions.items()
    }


def _specs(shape, n_classes, dtype):
    """The specification of each input of any program."""
    found = {
        "image": tf.TensorSpec((1, *shape, n_classes), dtype),
        "u": tf.TensorSpec((1, *shape, len(shape)), tf.float32),
        "gradient": tf.TensorSpec((1, *shape, n_classes), dtype),
    }
    for side in ("moving", "fixed"):
        found[f"{side}/image"] = tf.TensorSpec((1, *shape, 1), tf.float32)
        found[f"{side}/label"] = tf.TensorSpec((1, *shape), tf.int32)
        found[f"{side}/label_weight"] = tf.TensorSpec((1, n_classes), tf.float32)
    return found


def _method(specs, n_classes, widths):
    """DeepAtlas with the same weights for every size and precision."""
    keras.utils.set_random_seed(0)
    settings = {"turns": ["registration", "segmentation"], "n_classes": n_classes, "widths": widths}
    return deep_atlas(settings, {"moving": {"label": specs["moving/label"]}})


def _turn(method, turn, *tensors):
    """One update. What it gives are the new values of its variables: weights, the optimizer's, sums of the terms."""
    pair = {"moving": {}, "fixed": {}}
    for name, tensor in zip(INPUTS[f"{turn}_turn"], tensors, strict=True):
        side, _, part = name.partition("/")
        pair[side][part] = tensor
    method.update(turn, pair)


def _warp_gradients(image, u, gradient):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([image, u])
        warped = warp(image, u)
    return warped, *tape.gradient(warped, [image, u], gradient)


def _variables(method) -> dict[str, tf.Variable]:
    """Those of the networks as ``NET/LAYER/KIND``, which MONAI's side reads, of the optimizers and of the metrics."""
    owners = {name: net.variables for name, net in method.nets.items()}
    for turn, optimizer in method.optimizers_by_net.items():
        rate = getattr(optimizer, "_current_learning_rate", None)  # of a schedule, which no list of Keras has
        owners[f"{turn}_optimizer"] = [*optimizer.variables, *([] if rate is None else [rate])]
    owners |= {f"mean/{name}": metric.variables for name, metric in method.term_metrics.items()}
    return {f"{owner}/{one.name.removesuffix(':0')}": one for owner, found in owners.items() for one in found}
