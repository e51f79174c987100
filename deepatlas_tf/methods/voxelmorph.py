"""VoxelMorph: registration by a network (Balakrishnan et al., TMI 2019; diffeomorphic: Dalca et al., MedIA 2019).

    u = R(I_m, I_f)                 displacement field; diffeomorphic: v = R(I_m, I_f), u = exp(v)
    L = w_i L_i(I_m o (id + u), I_f) + w_r L_r(u or v) + w_a L_a(A_m o (id + u), A_f)

Weights of the turn ``registration``, each named as its term:

- ``similarity``: ``L_i``, by default 1 - global NCC; settings ``similarity`` and ``similarity_settings``, see
  :mod:`deepatlas_tf.losses.similarity`. VoxelMorph has ``local_ncc`` and ``mse``, the latter with
  ``{"image_sigma": 0.02}`` where it is diffeomorphic.
- ``smoothness`` (bending energy), ``gradient`` (voxelmorph's ``Grad("l2")``), ``gradient_l1``: ``L_r``, of the velocity
  field where the network is diffeomorphic, as in voxelmorph, else of the displacement field.
- ``anatomy``: ``L_a``, the soft Dice of the classes that are labelled in both label maps; its weight is the paper's
  gamma. With 0, the default, it is unsupervised. A pair without a class in common is registered by its images alone:
  this is the weakly supervised baseline of DeepAtlas.
- ``similarity_inverse``, ``anatomy_inverse``: the same of the fixed onto the moving side, so 0.5 for each of the two
  similarities is voxelmorph's bidirectional loss. The inverse is ``exp(-v)``, and ``R(I_f, I_m)`` of a network that
  has no velocity field (where voxelmorph takes ``-u``, which is no inverse).
- ``inverse_consistency`` (ICON, Greer et al., ICCV 2021), ``gradient_inverse_consistency`` (GradICON, Tian et al.,
  CVPR 2023): of ``R(I_m, I_f)`` and ``R(I_f, I_m)``, see :mod:`deepatlas_tf.losses.consistency`.

Whatever needs the second direction costs a second pass of the network or integration, and is computed only where its
weight is not 0.
"""

from collections.abc import Mapping
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.losses.consistency import gradient_inverse_consistency, inverse_consistency
from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.losses.smoothness import bending_energy, gradient_penalty
from deepatlas_tf.losses.warped_overlap import Anatomy, warped_soft_dice
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.velocity import split_integration
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Sample, Tensor


class VoxelMorph(Method):
    """A registration network trained on a stream of :class:`~deepatlas_tf.types.Pair`.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels.
        n_classes: number of classes of the label maps, background included.
        similarity: a key of ``SIMILARITIES`` in :mod:`deepatlas_tf.losses.similarity`.
        similarity_settings: its keyword arguments.
    """

    network_roles = {"registration": "registration"}
    stream = "pairs"
    knows_ignored = True
    stage_arguments = ("n_classes", "similarity", "similarity_settings")
    default_turns = {"registration": 1}
    default_weights = {
        "registration": {
            "similarity": 1.0,
            "similarity_inverse": 0.0,
            "smoothness": 1.0,
            "gradient": 0.0,
            "gradient_l1": 0.0,
            "inverse_consistency": 0.0,
            "gradient_inverse_consistency": 0.0,
            "anatomy": 0.0,
            "anatomy_inverse": 0.0,
        }
    }

    def __init__(
        self,
        registration: keras.Model,
        n_classes: int,
        similarity: str = "ncc",
        similarity_settings: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__({"registration": registration}, turns=("registration",), **kwargs)
        self.n_classes = n_classes
        self.similarity = similarity_function(similarity, similarity_settings)
        self.head, self.integrate = split_integration(registration)

    def registration_terms(self, pair: Pair) -> dict[str, Tensor]:
        """The terms for each pair, ``(B,)``, as far as their weights are not 0."""
        moving, fixed = pair["moving"], pair["fixed"]
        used = set(self.weights_by_turn["registration"])
        field, u = self._field(moving, fixed)
        terms = {**self._alignment(moving, fixed, u, "anatomy" in used), **regularity_terms(field)}
        consistency = used & {"inverse_consistency", "gradient_inverse_consistency"}
        inverse = used & {"similarity_inverse", "anatomy_inverse"}
        if consistency or (inverse and not self.integrate):
            _, u_back = self._field(fixed, moving)
            terms["inverse_consistency"] = inverse_consistency(u, u_back)
            terms["gradient_inverse_consistency"] = gradient_inverse_consistency(u, u_back)
        if inverse:
            u_inverse = self.integrate(-field) if self.integrate else u_back
            aligned = self._alignment(fixed, moving, u_inverse, "anatomy_inverse" in used)
            terms |= {f"{name}_inverse": value for name, value in aligned.items()}
        return terms

    @classmethod
    def field_regularisers(cls, field: Tensor, u: Tensor) -> dict[str, Tensor]:
        """The penalties of :func:`regularity_terms` on the predicted field, the velocity of a diffeomorphic network."""
        return regularity_terms(field)

    def labelled_sides(self) -> tuple[str, ...]:
        """Both where the labels have a weight, else none."""
        used = set(self.weights_by_turn.get("registration", {}))
        return super().labelled_sides() if used & {"anatomy", "anatomy_inverse"} else ()

    def _field(self, moving: Sample, fixed: Sample) -> tuple[Tensor, Tensor]:
        """What the network predicts, a displacement or velocity field, and the displacement field."""
        field = self.head([moving["image"], fixed["image"]], training=True)
        return field, self.integrate(field) if self.integrate else field

    def _alignment(self, moving: Sample, fixed: Sample, u: Tensor, with_anatomy: bool) -> dict[str, Tensor]:
        """``similarity`` of the images and, if wanted, ``anatomy``: Dice of the classes that both have labels of."""
        terms = {"similarity": self.similarity(warp(moving["image"], u), fixed["image"])}
        if with_anatomy:
            both_labelled = tf.minimum(moving["label_weight"], fixed["label_weight"])  # (B, C)
            labels = (Anatomy(side["label"], known=side.get("known")) for side in (moving, fixed))
            terms["anatomy"] = warped_soft_dice(*labels, u, self.n_classes, both_labelled)
        return terms


def regularity_terms(field: Tensor) -> dict[str, Tensor]:
    """The regularisers of a displacement or velocity field ``(B, *S, D)`` by name, ``(B,)``."""
    return {
        "smoothness": bending_energy(field),
        "gradient": gradient_penalty(field),
        "gradient_l1": gradient_penalty(field, "l1"),
    }
