"""DeepAtlas' two turns, as the benchmarks run them: the method, a synthetic pair, and a function for each turn.

The networks are the package's, with random weights. The moving scan is labelled and the fixed one is not, which needs
every part of both turns. The label map is of compact cells, and the images have one grey value a cell, with noise: so
memory is read in the order in which it is for real scans.
"""

import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy.spatial import cKDTree

import deepatlas_tf
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.models.networks import networks_from
from deepatlas_tf.models.old_settings import translated_networks
from deepatlas_tf.training.build_method import build_method
from deepatlas_tf.training.experiment import Stage

TURNS = ("registration", "segmentation")
TINY_NETWORKS = {
    "registration_encoder": (4, 4),
    "registration_decoder": (4, 4, 4),
    "segmentation_widths": (4, 4),
}  # to try a benchmark


def method_and_specs(shape: Sequence[int], n_classes: int, partial_labels: bool = False, channels: int = 1, **networks):
    """DeepAtlas, compiled, and the ``tf.TensorSpec`` of all that a step takes, a pair of scans of ``shape``.

    ``partial_labels``: whether the turns are those for data with label maps of some classes only. ``channels``: of
    the images. ``networks``: settings of the networks, such as ``precision``, with the names of the tables that were
    measured first.
    """
    dataset = SimpleNamespace(
        shape=tuple(shape),
        class_names=tuple(map(str, range(n_classes))),
        partial_labels=partial_labels,
        channel_names=tuple(f"image{n}" for n in range(channels)),
    )
    stage = Stage("joint", "deepatlas", steps=100, turns=dict.fromkeys(TURNS, 1))
    method = build_method(stage, networks_from(translated_networks(networks)), dataset, None)
    side = {
        "image": tf.TensorSpec((1, *shape, channels), tf.float32),
        "label": tf.TensorSpec((1, *shape), tf.int32),
        "label_weight": tf.TensorSpec((1, n_classes), tf.float32),
    }
    return method, {"moving": side, "fixed": side}


def synthetic_pair(shape: Sequence[int], n_classes: int, seed: int = 0, channels: int = 1):
    """The tensors of those specs: image (1, *S, K) in [0, 1], label (1, *S), label_weight (1, C), for both sides."""
    rng = np.random.default_rng(seed)
    sides = {}
    for name, labelled in (("moving", 1.0), ("fixed", 0.0)):
        centres = rng.uniform(0, 1, (n_classes, len(shape))) * shape
        grid = np.moveaxis(np.indices(shape), 0, -1)
        label = cKDTree(centres).query(grid.reshape(-1, len(shape)))[1].reshape(shape)
        grey = rng.uniform(0.1, 0.9, (n_classes, channels))[label] + rng.normal(0, 0.03, (*shape, channels))
        sides[name] = {
            "image": tf.constant(np.clip(grey, 0, 1)[None], tf.float32),
            "label": tf.constant(label[None], tf.int32),
            "label_weight": tf.fill((1, n_classes), labelled),
        }
    return sides


def traced_turn(method, specs, turn: str):
    """One step of a turn as a concrete function ``pair -> None``, which has a graph to look into."""
    return tf.function(partial(method.update, turn)).get_concrete_function(specs)


def commit() -> str:
    """Git commit of the package that is measured, with ``-dirty`` where its files have been changed since."""
    revision = _git("rev-parse", "--short=12", "HEAD")
    return f"{revision}-dirty" if _git("status", "--porcelain", "--", ".") else revision


def _git(*arguments) -> str:
    """What git prints in the package's folder."""
    command = ["git", "-C", str(Path(deepatlas_tf.__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
