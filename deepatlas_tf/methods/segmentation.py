"""Supervised segmentation: baseline and pre-training of DeepAtlas (Xu & Niethammer, MICCAI 2019).

    L = L_sp(S(I), A),   over the labelled samples

``L_sp`` is their soft multi-class Dice (setting ``supervised``), to which the voxelwise cross-entropy can be added
(``supervised_cross_entropy``): with a dozen small structures and one scan a batch, soft Dice alone learns slowly.
"""

from typing import Any

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.methods.base import Method, supervised_terms
from deepatlas_tf.types import Sample, Tensor


class Segmentation(Method):
    """A segmentation network trained on a stream of :class:`~deepatlas_tf.types.Sample`.

    Args:
        segmentation: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``.
    """

    network_roles = {"segmentation": "segmentation"}
    stream = "samples"
    knows_ignored = True
    label_terms = ("supervised", "supervised_cross_entropy")
    default_turns = {"segmentation": 1}
    default_weights = {"segmentation": {"supervised": 1.0, "supervised_cross_entropy": 1.0}}

    def __init__(self, segmentation: keras.Model, **kwargs: Any):
        super().__init__({"segmentation": segmentation}, turns=("segmentation",), **kwargs)

    def segmentation_terms(self, sample: Sample) -> dict[str, Tensor]:
        """Terms for each example, ``(B,)``; without unlabelled classes, ignored voxels and those of weight 0."""
        prediction = self.nets["segmentation"](sample["image"], training=True)
        voxels = sample.get("voxel_weight"), sample.get("known")
        return supervised_terms(prediction, sample["label"], sample["label_weight"], *voxels)
