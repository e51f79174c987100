"""Image panels for TensorBoard while a stage trains."""

from collections.abc import Mapping, Sequence

import numpy as np

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.predict import labeller, registrar, warp_image


class Panels:
    """Draws the middle slices of two validation scans for TensorBoard, side by side.

    With a registration network these are the moving, the fixed and the warped image and the difference of the last two;
    with a segmentation network the fixed image, its label map and the predicted one.

    Args:
        samples: the moving and the fixed :class:`~deepatlas_tf.types.Sample`, NumPy arrays without a batch axis; with
            fewer than two, nothing is drawn.
        nets: Keras models by name, ``"registration"`` and ``"segmentation"``.
    """

    def __init__(self, samples: Sequence[Mapping[str, np.ndarray]], nets: Mapping[str, keras.Model]):
        self.samples = samples
        self.segment = labeller(nets["segmentation"]) if "segmentation" in nets else None
        self.register = registrar(nets["registration"]) if "registration" in nets else None

    def __call__(self) -> None:
        """Write the pictures to TensorFlow's default summary writer at its default step."""
        if len(self.samples) < 2:
            return
        moving, fixed = self.samples
        if self.register:
            warped = warp_image(moving["image"], self.register(moving["image"], fixed["image"]))
            difference = np.abs(warped - fixed["image"])
            row = [moving["image"], fixed["image"], warped, difference]
            tf.summary.image("moving_fixed_warped_difference", _row([x[..., 0] for x in row]))
        if self.segment:
            scale = 1 / max(1, fixed["label"].max())
            row = [fixed["image"][..., 0], fixed["label"] * scale, self.segment(fixed["image"]) * scale]
            tf.summary.image("image_label_prediction", _row(row))


def _row(images: Sequence[np.ndarray]) -> np.ndarray:
    """Put images ``(*S)`` side by side, of 3D ones the middle coronal slices, superior up: ``(1, H, W, 1)``."""
    slices = [image if image.ndim == 2 else image[:, image.shape[1] // 2] for image in images]
    return np.clip(np.concatenate([np.rot90(s) for s in slices], axis=1), 0, 1)[None, ..., None].astype(np.float32)
