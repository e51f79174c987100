"""UniSegReg: segmentation and registration from soft pseudo masks (Li et al., ISBI 2025, arXiv 2502.03229).

Li, Figueredo, Auer, Dineen, Morgan & Chen. Each training image has an anatomy ``A``, its manual label or the soft
pseudo mask that the networks of the round before have agreed on (:mod:`deepatlas_tf.training.pseudo`):

    A(k)   = w_k onehot(L_k) + (1 - w_k) Q_k                Q: the sample's ``soft_label``

    segmentation turn   0.5 L_dice(S(I), A) + 0.5 L_ce(S(I), A)                 mean over the two images of the pair
    registration turn   1/L sum_l [1 - NCC(I_m o (id + u_l), I_f) + L_dice(A(m) o (id + u_l), A(f))]
                        + 1/L sum_l lambda_l |grad r_l|^2

``u_l`` and ``r_l`` are the fields and the residuals of the levels of the registration network
(:mod:`deepatlas_tf.models.registration.pyramid`), from the coarsest on, and ``lambda`` is 128, 64, 32, 16, 8 in 2D and
16, 8, 4, 2 in 3D. Images and anatomies of a level are averages of 2^D voxels of the next finer one (the authors take
the nearest voxel). Any other registration network is a pyramid of one level, with the last ``lambda``.

The two turns share nothing but the masks, which stay as they are for a whole stage: so one stage with both turns is one
round, in whatever order they come. Without pseudo masks, as in pre-training, only labelled classes count.

Weights: ``registration/similarity``, ``registration/anatomy``, ``registration/smoothness`` (a factor of ``lambda``),
``segmentation/supervised``, ``segmentation/supervised_cross_entropy``. Where the stage's ``pseudo_gate`` has emptied
voxels of a soft mask, they have no influence on any of the anatomy terms; nor have ignored voxels of label maps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.losses.overlap import cross_entropy, soft_dice
from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.losses.smoothness import gradient_penalty
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.registration.pyramid import split_levels
from deepatlas_tf.ops.labels import known_part, mix, one_hot
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Sample, Tensor

RESIDUAL_WEIGHTS = {2: (128.0, 64.0, 32.0, 16.0, 8.0), 3: (16.0, 8.0, 4.0, 2.0)}


class UniSegReg(Method):
    """The two networks, trained on a stream of :class:`~deepatlas_tf.types.Pair`.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels.
        segmentation: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``.
        n_classes: number of classes, background included.
        turns: which net is updated, in order, again and again.
        similarity: a key of ``SIMILARITIES`` in :mod:`deepatlas_tf.losses.similarity`; similarity_settings: its keyword
            arguments.
    """

    network_roles = {"registration": "registration", "segmentation": "segmentation"}
    stream = "pairs"
    knows_ignored = True
    stage_arguments = ("n_classes", "turns", "similarity", "similarity_settings")
    label_terms = ("supervised", "supervised_cross_entropy")
    default_turns = {"registration": 1, "segmentation": 1}
    default_weights = {
        "registration": {"similarity": 1.0, "anatomy": 1.0, "smoothness": 1.0},
        "segmentation": {"supervised": 0.5, "supervised_cross_entropy": 0.5},
    }

    def __init__(
        self,
        registration: keras.Model,
        segmentation: keras.Model,
        n_classes: int,
        turns: Sequence[str] = ("registration", "segmentation"),
        similarity: str = "ncc",
        similarity_settings: Mapping[str, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__({"registration": registration, "segmentation": segmentation}, turns, **kwargs)
        self.n_classes = n_classes
        self.similarity = similarity_function(similarity, similarity_settings)
        self.levels = split_levels(registration)

    @classmethod
    def field_regularisers(cls, field: Tensor, u: Tensor) -> dict[str, Tensor]:
        """One field is a pyramid of one level, whose penalty is ``lambda |grad u|^2`` with the last ``lambda``."""
        return {"smoothness": residual_penalty([u])}

    def registration_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms of the registration turn for each pair, ``(B,)``."""
        moving, fixed = pair["moving"], pair["fixed"]
        fields, residuals = self.levels([moving["image"], fixed["image"]], training=True)
        anatomies = [anatomy(side, self.n_classes) for side in (moving, fixed)]
        class_weight = None if "soft_label" in fixed else tf.minimum(moving["label_weight"], fixed["label_weight"])
        # The anatomy is pooled and warped together with its image
        a, b = (tf.concat([s["image"], q], axis=-1) for s, q in zip((moving, fixed), anatomies, strict=True))
        overlap = _overlap_of_known if "known" in fixed else _overlap
        similarities, overlaps, n = [], [], moving["image"].shape[-1]
        for u in reversed(fields):
            warped = warp(a, _crop(u, a))
            similarities.append(self.similarity(warped[..., :n], b[..., :n]))
            overlaps.append(overlap(warped[..., n:], b[..., n:], class_weight))
            a, b = (tf.nn.avg_pool(x, 2, 2, "SAME") for x in (a, b))  # padding is left out of the averages
        return {
            "similarity": tf.add_n(similarities) / len(fields),
            "anatomy": tf.add_n(overlaps) / len(fields),
            "smoothness": residual_penalty(residuals),
        }

    def segmentation_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms of the segmentation turn for each pair, ``(B,)``: the mean of its two images."""
        sides = (pair["moving"], pair["fixed"])
        prediction = self.nets["segmentation"](tf.concat([s["image"] for s in sides], axis=0), training=True)
        reference = tf.concat([anatomy(side, self.n_classes) for side in sides], axis=0)
        masks = "soft_label" in sides[0]
        weight = None if masks else tf.concat([side["label_weight"] for side in sides], axis=0)
        prediction *= tf.reduce_sum(reference, axis=-1, keepdims=True)  # 0 where nothing is known
        known = tf.concat([side["known"] for side in sides], axis=0) if "known" in sides[0] else None
        return {
            "supervised": _mean_of_sides(soft_dice(prediction, reference, weight, known=known)),
            "supervised_cross_entropy": _mean_of_sides(cross_entropy(prediction, reference, weight, known=known)),
        }


def anatomy(sample: Sample, n_classes: int) -> Tensor:
    """Class probabilities of a sample, ``(B, *S, C)``: its label, completed by its soft label where there is one.

    With a soft label all classes are known, but for voxels where it is empty; else only those of ``label_weight``. It
    is 0 in ignored voxels.
    """
    if "soft_label" in sample:
        mixed = mix(sample["label"], sample["label_weight"], sample["soft_label"])
    else:
        mixed = one_hot(sample["label"], n_classes)
    return mixed * sample["known"] if "known" in sample else mixed


def residual_penalty(residuals: Sequence[Tensor]) -> Tensor:
    """``1/L sum_l lambda_l |grad r_l|^2`` of the levels from the coarsest on, each ``(B, *S_l, D)``: ``(B,)``."""
    weights = RESIDUAL_WEIGHTS[residuals[0].shape[-1]][-len(residuals) :]
    if len(weights) < len(residuals):
        raise ValueError(
            f"there are {len(weights)} weights for the {len(residuals)} levels of the registration network"
        )
    return tf.add_n([w * gradient_penalty(r) for w, r in zip(weights, residuals, strict=True)]) / len(residuals)


def _overlap(warped: Tensor, fixed: Tensor, class_weight: Tensor | None) -> Tensor:
    """Soft Dice of the voxels in which both anatomies are known."""
    known = tf.reduce_sum(warped, axis=-1, keepdims=True), tf.reduce_sum(fixed, axis=-1, keepdims=True)
    return soft_dice(warped * known[1], fixed * known[0], class_weight)


def _overlap_of_known(warped: Tensor, fixed: Tensor, class_weight: Tensor | None) -> Tensor:
    """:func:`_overlap` where label maps have ignored voxels, of which pooling may leave any share in a voxel."""
    (warped, known_warped), (fixed, known_fixed) = map(known_part, (warped, fixed))
    return soft_dice(warped, fixed, class_weight, known=known_warped * known_fixed)


def _mean_of_sides(values: Tensor) -> Tensor:
    return tf.add_n(tf.split(values, 2)) / 2


def _crop(u: Tensor, like: Tensor) -> Tensor:
    """The field without the padding of its network, which is at the far end of each axis."""
    return u[(slice(None), *(slice(0, n) for n in like.shape[1:-1]))]
