"""The rows of the comparison: each is a list of cases, and a case is one task on one input."""

import dataclasses
from collections.abc import Callable

from side_by_side import inputs

OURS = "ours"
# Side -> module of its tasks; those of PEERS_PYTHON run in the environment of the peers
MODULES = {
    OURS: "side_by_side.ours",
    "MONAI": "side_by_side.monai_side",
    "voxelmorph": "side_by_side.voxelmorph_side",
    "surface-distance": "side_by_side.surface_distance_side",
}
PEERS_PYTHON = {"MONAI", "surface-distance"}


# Those of DeepAtlas in the package, said here for both sides
WIDTHS = {
    "registration_encoder": (16, 32, 32, 32),
    "registration_decoder": (32, 32, 32, 32, 8, 8),
    "segmentation_widths": (16, 32, 64, 128),
}
TINY_WIDTHS = {
    "registration_encoder": (4, 8),
    "registration_decoder": (8, 8, 4),
    "segmentation_widths": (4, 8),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """name: in the table. task, settings: of each side. arrays: () -> the inputs.

    peers: sides besides ours. n: what a step does so often. repeats: at least.
    """

    name: str
    task: str
    settings: dict
    arrays: Callable[[], dict]
    peers: tuple[str, ...] = ("MONAI",)
    n: int = 1
    unit: str = "s"


def turns(tiny: bool) -> list[Case]:
    shape, classes = ((16, 16, 16), (3,)) if tiny else ((64, 64, 64), (4, 32))
    cases = []
    for n_classes in classes:
        for similarity in ("ncc", "local_ncc"):
            settings = {"turns": ["registration"], "similarity": similarity, **networks(n_classes, tiny)}
            cases.append(_turn(f"registration turn, {similarity}", shape, settings))
        settings = {"turns": ["segmentation"], **networks(n_classes, tiny)}
        cases.append(_turn("segmentation turn", shape, settings))
    return cases


def memory(tiny: bool) -> list[Case]:
    shapes, classes = ([(16, 16, 16)], (3,)) if tiny else ([(64, 64, 64), (128, 128, 128)], (4, 32))
    both = {"turns": ["registration", "segmentation"]}
    return [
        _turn("joint step", shape, {**both, **networks(n_classes, tiny)}, "bytes")
        for shape in shapes
        for n_classes in classes
    ]


def voxelmorph(tiny: bool) -> list[Case]:
    shape, steps = ((16, 16, 16), 1) if tiny else ((64, 64, 64), 20)
    settings = {"gradient_weight": 0.01, "steps": steps, **networks(4, tiny)}
    name = f"fit, local NCC and gradient, {_text(shape)}"
    return [Case(name, "fit", settings, lambda: inputs.pair(shape, 4), ("voxelmorph",), n=steps)]


def warp(tiny: bool) -> list[Case]:
    sizes = [((12, 12, 12), 2)] if tiny else [((64, 64, 64), 1), ((64, 64, 64), 8), ((96, 96, 96), 32)]
    shown = {
        "none": "forward",
        "field": "forward and gradient of the field",
        "both": "forward and gradient of field and image",
    }
    return [
        Case(
            f"warp, {_text(shape)} x {channels}, {text}",
            "warp",
            {"gradient": gradient},
            lambda shape=shape, channels=channels: inputs.warp(shape, channels),
            ("MONAI", "voxelmorph"),
        )
        for shape, channels in sizes
        for gradient, text in shown.items()
    ]


def local_ncc(tiny: bool) -> list[Case]:
    shapes = [(12, 12, 12)] if tiny else [(64, 64, 64), (128, 128, 128)]
    return [
        Case(
            f"local NCC, {_text(shape)}, forward and gradient",
            "local_ncc",
            {},
            lambda shape=shape: inputs.alike(shape),
            ("MONAI", "voxelmorph"),
        )
        for shape in shapes
    ]


def files(tiny: bool) -> list[Case]:
    shape = (16, 32, 16) if tiny else (160, 192, 160)
    cases = [("segment", n) for n in ((3,) if tiny else (4, 32))] + [("register", 4)]
    return [
        Case(
            f"{task} from file to file, {_text(shape)}{f', {n_classes} classes' if task == 'segment' else ''}",
            task,
            networks(n_classes, tiny),
            lambda: inputs.pair(shape, 4),
        )
        for task, n_classes in cases
    ]


def evaluation(tiny: bool) -> list[Case]:
    shape, n_classes = ((24, 24, 24), 3) if tiny else ((160, 192, 160), 32)
    name = f"Dice, HD95, ASSD and folds of one pair, {_text(shape)}, {n_classes} classes"
    settings = {"n_classes": n_classes}
    peers = ("MONAI", "surface-distance")
    return [Case(name, "evaluation", settings, lambda: inputs.evaluated(shape, n_classes), peers)]


ROWS = {row.__name__: row for row in (turns, voxelmorph, warp, local_ncc, memory, files, evaluation)}


def networks(n_classes: int, tiny: bool) -> dict:
    """The settings of the networks."""
    return {"n_classes": n_classes, "widths": TINY_WIDTHS if tiny else WIDTHS}


def _turn(name, shape, settings, unit="s"):
    name = f"{name}, {_text(shape)}, {settings['n_classes']} classes"
    return Case(name, "turn", settings, lambda: inputs.pair(shape, settings["n_classes"]), unit=unit)


def _text(shape):
    return f"{shape[0]}^3" if len(set(shape)) == 1 else " x ".join(map(str, shape))
