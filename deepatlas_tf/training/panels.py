"""Image panels for TensorBoard while a stage trains."""

import numpy as np

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.runs.predict import labeller, registrar, warp_image


class Panels:
    """Middle slices of two validation scans: moving, fixed, warped and difference; image, label map and prediction.

    Args:
        samples: the moving and the fixed sample, NumPy arrays; with fewer than two, nothing is drawn.
        nets: Keras models by name.
    """

    def __init__(self, samples, nets):
        self.samples = samples
        self.segment = labeller(nets["segmentation"]) if "segmentation" in nets else None
        self.register = registrar(nets["registration"]) if "registration" in nets else None

    def __call__(self, stage: str) -> None:
        """Write the summaries to the default writer at its default step."""
        if len(self.samples) < 2:
            return
        moving, fixed = self.samples
        if self.register:
            warped = warp_image(moving["image"], self.register(moving["image"], fixed["image"]))
            difference = np.abs(warped - fixed["image"])
            row = [moving["image"], fixed["image"], warped, difference]
            tf.summary.image(f"{stage}/moving_fixed_warped_difference", _row([x[..., 0] for x in row]))
        if self.segment:
            scale = 1 / max(1, fixed["label"].max())
            row = [fixed["image"][..., 0], fixed["label"] * scale, self.segment(fixed["image"]) * scale]
            tf.summary.image(f"{stage}/image_label_prediction", _row(row))


def _row(images):
    """2D images, or the middle coronal slices of 3D ones, superior up, side by side: ``(1, H, W, 1)``."""
    slices = [image if image.ndim == 2 else image[:, image.shape[1] // 2] for image in images]
    return np.clip(np.concatenate([np.rot90(s) for s in slices], axis=1), 0, 1)[None, ..., None].astype(np.float32)
