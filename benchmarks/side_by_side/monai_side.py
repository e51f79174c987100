"""PyTorch and MONAI, as their users write it: the turns, the warp and the local NCC."""

import importlib.metadata
import sys

import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

from side_by_side import monai_files
from side_by_side.monai_turns import channels_first, turn_task, warp_task
from side_by_side.worker import Task


def set_threads(n: int) -> None:
    torch.set_num_threads(n)


def threads() -> dict:
    return {"torch": torch.get_num_threads()}


def versions() -> dict:
    names = ("torch", "monai", "numpy", "scipy", "nibabel", "surface-distance")
    return {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in names}}


def local_ncc_task(settings, arrays):
    warped, fixed = (channels_first(arrays[name]) for name in ("warped", "fixed"))
    warped.requires_grad_()
    loss = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=9)

    def step():
        value = 1 + loss(warped, fixed)
        return value, *torch.autograd.grad(value, [warped])

    value, gradient = step()
    # of a positive local correlation, up to rounding
    return Task(step, {"loss": float(value.detach()), "gradient": float(gradient.norm())})


TASKS = {"turn": turn_task, "warp": warp_task, "local_ncc": local_ncc_task, **monai_files.TASKS}
