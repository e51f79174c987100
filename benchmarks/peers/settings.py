"""The peers and their settings. Of each method the setting that is best on the validation pairs is quoted."""

import dataclasses
from collections.abc import Mapping

AFFINE = {"metric": "NCC 2x2x2", "iterations": "100x50x10"}  # of greedy
SEED = 1
LEVELS = (100, 100, 50)  # iterations of SyN


@dataclasses.dataclass(frozen=True)
class Method:
    """tool: a function of ``peers.tools``. packages: on PyPI. settings: name -> arguments of the tool.

    No method is given a label map.
    """

    tool: str
    packages: tuple[str, ...]
    settings: Mapping[str, dict]


def seed_of(tool: str) -> int | None:
    """The seed that a tool is given; None for one that takes none."""
    return SEED if tool in ("ants", "elastix") else None


def _syn(**values) -> dict:
    return {"type_of_transform": "SyN", **values}


def _greedy(radius: int, first: float, last: float) -> dict:
    smooth = f"{first}vox {last}vox"
    return {"affine": AFFINE, "metric": f"NCC {radius}x{radius}x{radius}", "iterations": "100x80x50", "smooth": smooth}


def _elastix(metric: str, grid_voxels: int, bending: bool = False) -> dict:
    return {"metric": metric, "grid_voxels": grid_voxels, "bending": bending, "iterations": 256}


ANTS, GREEDY, CONVEX, ELASTIX = ("antspyx",), ("picsl_greedy",), ("convexAdam", "torch"), ("itk-elastix", "itk-core")
NCC, MATTES = "AdvancedNormalizedCorrelation", "AdvancedMattesMutualInformation"

METHODS = {
    "ANTs affine": Method("ants", ANTS, {"defaults": {"type_of_transform": "Affine"}}),
    "ANTs SyN, Mattes": Method(
        "ants",
        ANTS,
        {
            "defaults": _syn(),
            "100x100x50": _syn(reg_iterations=LEVELS),
            "100x100x50, flow sigma 2": _syn(reg_iterations=LEVELS, flow_sigma=2),
        },
    ),
    "ANTs SyN, CC": Method(
        "ants",
        ANTS,
        {
            "radius 4": _syn(syn_metric="CC", syn_sampling=4),
            "radius 2, 100x100x50": _syn(syn_metric="CC", syn_sampling=2, reg_iterations=LEVELS),
            "radius 2, 100x100x50, flow sigma 2": _syn(
                syn_metric="CC", syn_sampling=2, reg_iterations=LEVELS, flow_sigma=2
            ),
        },
    ),
    "greedy affine": Method(
        "greedy",
        GREEDY,
        {"NCC 2x2x2": {"affine": AFFINE}, "NCC 4x4x4": {"affine": {**AFFINE, "metric": "NCC 4x4x4"}}},
    ),
    "greedy": Method(
        "greedy",
        GREEDY,
        {
            "NCC 2x2x2, sigmas 1.732 and 0.707": _greedy(2, 1.732, 0.707),
            "NCC 2x2x2, sigmas 1.5 and 0.7": _greedy(2, 1.5, 0.7),
            "NCC 3x3x3, sigmas 1.732 and 0.707": _greedy(3, 1.732, 0.707),
            "NCC 3x3x3, sigmas 1.5 and 0.7": _greedy(3, 1.5, 0.7),
            "NCC 4x4x4, sigmas 1.5 and 0.5": _greedy(4, 1.5, 0.5),
            "NCC 2x2x2, sigmas 2.5 and 1": _greedy(2, 2.5, 1.0),
        },
    ),
    "ConvexAdam": Method(
        "convex_adam",
        CONVEX + GREEDY,
        {
            "defaults": {},
            "grid 4, weight 0.75": {"grid_sp": 4, "lambda_weight": 0.75},
            "affine of greedy first": {"affine": AFFINE},
            "affine of greedy first, grid 4, weight 0.75": {"affine": AFFINE, "grid_sp": 4, "lambda_weight": 0.75},
        },
    ),
    "elastix": Method(
        "elastix",
        ELASTIX,
        {
            "defaults, grid of 8 voxels": _elastix(MATTES, 8, bending=True),
            "no bending energy, grid of 8 voxels": _elastix(MATTES, 8),
            "no bending energy, grid of 4 voxels": _elastix(MATTES, 4),
            "NCC, no bending energy, grid of 4 voxels": _elastix(NCC, 4),
        },
    ),
}
