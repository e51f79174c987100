"""DeepMind's surface-distance: distances and Dice class by class."""

import warnings

import numpy as np
import torch

from side_by_side import monai_side
from side_by_side.monai_files import folds_percent
from side_by_side.worker import Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance

set_threads, threads, versions = monai_side.set_threads, monai_side.threads, monai_side.versions
AREA = "surface-distance weighs a piece of the surface by its area"
warnings.filterwarnings("ignore", module="surface_distance")


def evaluation_task(settings, arrays):
    n_classes, u = settings["n_classes"], torch.from_numpy(arrays["u"])
    prediction, reference = arrays["prediction"], arrays["reference"]

    def step():
        masks = ((reference == index, prediction == index) for index in range(1, n_classes))
        found = np.transpose([of_class(*pair) for pair in masks])
        return dict(zip(("dice", "hd95_mm", "assd_mm"), found, strict=True)) | {"folds": folds_percent(u)}

    values = {name: float(np.mean(value)) for name, value in step().items()}
    return Task(step, values, {"hd95_mm": AREA, "assd_mm": AREA})


def of_class(reference, prediction):
    """Dice, HD95 and ASSD of two masks."""
    distances = surface_distance.compute_surface_distances(reference, prediction, (1.0, 1.0, 1.0))
    hd95 = surface_distance.compute_robust_hausdorff(distances, 95)
    assd = np.mean(surface_distance.compute_average_surface_distance(distances))
    return surface_distance.compute_dice_coefficient(reference, prediction), hd95, assd


TASKS = {"evaluation": evaluation_task}
