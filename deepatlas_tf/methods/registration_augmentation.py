"""Segmentation of a few labels multiplied by registration: stage 2 of SegGuidedMMReg (Demir & Niethammer, MIDL 2024).

    u = R(I_m, I_f),   L = L_sp(S(I_m o (id + u)), L_m o (id + u))

Each labelled scan is warped to each other scan by a frozen registration network, and its label map with it: image and
label agree by construction, however well the two subjects were registered, and the anatomy takes the shapes of the
unlabelled subjects. Nothing is stored: each pair is warped when it is drawn. The stage draws the moving side from the
labelled subjects (``labelled_fraction=(1.0, None)``). ``L_sp`` is the soft Dice of the foreground, to which the
cross-entropy can be added, as in the method ``segmentation``; the authors' Dice counts the background too.
"""

from typing import Any

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.methods.base import Method, supervised_terms
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Tensor


class RegistrationAugmentation(Method):
    """A segmentation network trained on a stream of :class:`~deepatlas_tf.types.Pair`, moving to fixed.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels; it is frozen.
        segmentation: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``.
    """

    network_roles = {"registration": "registration", "segmentation": "segmentation"}
    stream = "pairs"
    knows_ignored = True
    label_terms = ("supervised", "supervised_cross_entropy")
    default_turns = {"segmentation": 1}
    default_weights = {"segmentation": {"supervised": 1.0, "supervised_cross_entropy": 1.0}}

    def __init__(self, registration: keras.Model, segmentation: keras.Model, **kwargs: Any):
        super().__init__({"registration": registration, "segmentation": segmentation}, ("segmentation",), **kwargs)

    def labelled_sides(self) -> tuple[str, ...]:
        """Labels are those of the moving side."""
        return ("moving",)

    def segmentation_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms for each pair, ``(B,)``; classes without a label in the moving map and ignored voxels count nothing."""
        moving, fixed = pair["moving"], pair["fixed"]
        u = self.nets["registration"]([moving["image"], fixed["image"]], training=False)
        label = warp(moving["label"][..., None], u, "nearest")[..., 0]  # (B, *S)
        prediction = self.nets["segmentation"](warp(moving["image"], u), training=True)
        known = warp(moving["known"], u, "nearest") if "known" in moving else None
        return supervised_terms(prediction, label, moving["label_weight"], known=known)
