"""PyTorch, MONAI and nibabel on whole scans: segmentation, registration, and MONAI's metrics."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from monai.networks.blocks import Warp
from monai.networks.utils import one_hot as monai_one_hot

from side_by_side import inputs
from side_by_side.monai_nets import registration_net, segmentation_net
from side_by_side.worker import Task

LPS = np.array([-1.0, -1.0, 1.0], np.float32)
OUTSIDE = "outside of the moving scan deepatlas_tf has 0, MONAI its border"


def segment_task(settings, arrays):
    """No resampling: the scan has the voxel size and the axes of training."""
    folder = tempfile.TemporaryDirectory()
    inputs.write_scans(Path(folder.name), arrays)
    net = segmentation_net(settings, arrays).eval()

    @torch.inference_mode()
    def step():
        image = read(folder, "moving")
        label = net(rescaled(image.get_fdata(dtype=np.float32)))[0].argmax(dim=0)
        label = label.to(torch.uint8).numpy()
        nib.save(nib.Nifti1Image(label, image.affine), f"{folder.name}/label.nii.gz")
        return label

    return Task(step, inputs.label_values(step()))


def register_task(settings, arrays):
    folder = tempfile.TemporaryDirectory()
    inputs.write_scans(Path(folder.name), arrays)
    net = registration_net(settings, arrays).eval()
    warp = Warp("bilinear", "border")

    @torch.inference_mode()
    def step():
        moving, fixed = (read(folder, name) for name in ("moving", "fixed"))
        volume = moving.get_fdata(dtype=np.float32)
        u = net(rescaled(volume), rescaled(fixed.get_fdata(dtype=np.float32)))
        warped = warp(torch.from_numpy(volume)[None, None], u)[0, 0].numpy()
        # voxels are millimetres here; a field in a file is (X, Y, Z, 1, 3), LPS
        field = (u[0].movedim(0, -1).numpy() * LPS)[..., None, :]
        image = nib.Nifti1Image(field, fixed.affine)
        image.header.set_intent("vector")
        nib.save(image, f"{folder.name}/field.nii.gz")
        nib.save(nib.Nifti1Image(warped, fixed.affine), f"{folder.name}/warped.nii.gz")
        return {"field": float(np.abs(field).mean()), "warped": float(warped.mean())}

    return Task(step, step(), {"warped": OUTSIDE})


def evaluation_task(settings, arrays):
    n_classes, u = settings["n_classes"], torch.from_numpy(arrays["u"])

    def step():
        prediction, reference = (one_hot(arrays[name], n_classes) for name in ("prediction", "reference"))
        found = {"dice": compute_dice(prediction, reference, include_background=False), "folds": folds_percent(u)}
        found["hd95_mm"] = compute_hausdorff_distance(prediction, reference, percentile=95)
        found["assd_mm"] = compute_average_surface_distance(prediction, reference, symmetric=True)
        return found

    return Task(step, {name: float(torch.as_tensor(value).mean()) for name, value in step().items()})


def read(folder, name):
    return nib.as_closest_canonical(nib.load(f"{folder.name}/{name}.nii.gz"))


def rescaled(volume: np.ndarray) -> torch.Tensor:
    """``(*S)`` -> ``(1, 1, *S)`` in [0, 1], as ``deepatlas_tf.scans.intensity.rescale``."""
    low, high = np.percentile(volume[volume != 0], (0.5, 99.5))
    scaled = np.clip((volume - np.float32(low)) / np.float32(high - low), 0, 1)
    return torch.from_numpy(scaled)[None, None]


def one_hot(label: np.ndarray, n_classes: int) -> torch.Tensor:
    """``(*S)`` -> ``(1, C, *S)`` float32, which the metrics compute with."""
    return monai_one_hot(torch.from_numpy(label)[None, None], n_classes)


def folds_percent(u: torch.Tensor) -> float:
    """MONAI has none. Of u ``(*S, 3)``, central differences."""
    rows = [list(torch.gradient(u[..., i])) for i in range(3)]
    for i in range(3):
        rows[i][i] = rows[i][i] + 1
    (a, b, c), (d, e, f), (g, h, i) = rows
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return 100 * float((determinant <= 0).float().mean())


TASKS = {"segment": segment_task, "register": register_task, "evaluation": evaluation_task}
