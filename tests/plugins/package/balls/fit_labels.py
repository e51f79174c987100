"""Soft Dice of the labelled images, and nothing else (a test of plug-ins; no paper)."""

from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.methods.base import Method
from deepatlas_tf.ops.labels import one_hot


class FitLabels(Method):
    """A segmentation network trained on samples."""

    network_roles = {"segmentation": "segmentation"}
    stream = "samples"
    label_terms = ("supervised",)
    default_turns = {"segmentation": 1}
    default_weights = {"segmentation": {"supervised": 1.0}}

    def __init__(self, segmentation, **kwargs):
        super().__init__({"segmentation": segmentation}, turns=("segmentation",), **kwargs)

    def segmentation_terms(self, sample):
        prediction = self.nets["segmentation"](sample["image"], training=True)
        return {"supervised": soft_dice(prediction, one_hot(sample["label"], prediction.shape[-1]))}
