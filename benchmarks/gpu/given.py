"""The programs by name, their files, and their inputs, which are the same on every side. No TensorFlow, no PyTorch."""

import functools
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from side_by_side import inputs

NAMES = ("registration_turn", "segmentation_turn", "register", "segment", "warp", "warp_gradients")
PRECISIONS = ("float32", "bfloat16")
PAIR = tuple(f"{side}/{part}" for side in ("moving", "fixed") for part in ("image", "label", "label_weight"))
"""Inputs of a turn, in order: image ``(1, *S, 1)`` in [0, 1], label map ``(1, *S)``, weights of classes ``(1, C)``."""
INPUTS = {
    "registration_turn": PAIR,
    "segmentation_turn": PAIR,
    "register": ("moving/image", "fixed/image"),
    "segment": ("moving/image",),
    "warp": ("image", "u"),
    "warp_gradients": ("image", "u", "gradient"),
}
"""Program -> names of its inputs, in order. ``image`` and ``gradient`` have as many channels as there are classes."""
OUTPUTS = {
    "register": ("u",),
    "segment": ("probabilities",),
    "warp": ("warped",),
    "warp_gradients": ("warped", "gradient of the image", "gradient of the field"),
}
"""Program -> names of what it returns; a turn returns nothing, it changes its variables."""


def given(name: str, shape: Sequence[int], n_classes: int) -> dict[str, np.ndarray]:
    """The inputs of a program for images of ``shape``; the moving image is labelled, the fixed one is not."""
    arrays = (_warp if name.startswith("warp") else _pair)(tuple(shape), n_classes)
    return {one: arrays[one] for one in INPUTS[name]}


@functools.lru_cache(maxsize=1)  # they take seconds for large images, and are those of several programs
def _pair(shape, n_classes):
    found = inputs.pair(shape, n_classes)
    return {
        "moving/image": found["moving"],
        "moving/label": found["label"],
        "moving/label_weight": np.ones((1, n_classes), np.float32),
        "fixed/image": found["fixed"],
        "fixed/label": np.zeros_like(found["label"]),
        "fixed/label_weight": np.zeros((1, n_classes), np.float32),
    }


@functools.lru_cache(maxsize=1)
def _warp(shape, n_classes):
    return inputs.warp(shape, n_classes)


def text(shape: Sequence[int]) -> str:
    """A size as it is written and named, such as ``160x192x160``."""
    return "x".join(map(str, shape))


class Folder:
    """The folder of exported programs.

    ``programs.json`` says what they are, ``weights.npz`` has the values that their variables start with, and each
    program is a serialised ``HloModuleProto``, compressed by gzip.
    """

    def __init__(self, path: Path):
        self.path = path

    def about(self) -> dict:
        """What ``programs.json`` holds."""
        return json.loads((self.path / "programs.json").read_text(encoding="utf-8"))

    def weights(self) -> dict[str, np.ndarray]:
        """Variable's name -> value, such as ``registration/flow/kernel``."""
        return dict(np.load(self.path / "weights.npz"))

    def program(self, case: dict) -> bytes:
        """The serialised ``HloModuleProto`` of a case of ``programs.json``."""
        return gzip.decompress((self.path / case["file"]).read_bytes())

    def expected(self, case: dict) -> Path:
        """The file with what TensorFlow's normal step gives, by the name of the output."""
        return self.path / case["file"].replace(".hlo.gz", ".expected.npz")

    def write_program(self, case: dict, program: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / case["file"]).write_bytes(gzip.compress(program))

    def write(self, about: dict, weights: dict[str, np.ndarray]) -> None:
        """Written last, when all programs are there."""
        np.savez_compressed(self.path / "weights.npz", **weights)
        (self.path / "programs.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
