"""DeepAtlas: joint semi-supervised learning of registration and segmentation (Xu & Niethammer, MICCAI 2019).

The two networks teach each other, in turns, each frozen while the other is updated:

    u      = R(I_m, I_f)                                        displacement field
    A(k)   = w_k onehot(L_k) + (1 - w_k) S(I_k)                 anatomy: the manual label, else the predicted one

    registration turn   w_i L_i(I_m o (id + u), I_f) + w_r L_r(u) + w_a L_a(A(m) o (id + u), A(f))
    segmentation turn   w_a max(w_m, w_f) L_a(A(m) o (id + u), A(f))
                        + w_sp [w_m L_sp(S(I_m), L_m) + w_f L_sp(S(I_f), L_f)]

``L_i`` is 1 - global NCC, ``L_r`` the bending energy, ``L_a`` and ``L_sp`` the soft multi-class Dice. The label weights
``w_m``, ``w_f`` are 1 for a manual label and 0 for none, which gives the paper's four cases; for two unlabelled images
the segmentation turn has no term, as the paper has it.

Settings: ``turns`` is 20 registrations to 1 segmentation as in the paper; turns of one kind only are Semi-DeepAtlas.
Weights: ``registration/similarity`` (w_i), ``registration/smoothness`` (w_r), ``registration/anatomy`` and
``segmentation/anatomy`` (w_a), ``segmentation/supervised`` (w_sp). Beyond the paper,
``segmentation/anatomy_cross_entropy`` and ``segmentation/supervised_cross_entropy`` add the voxelwise cross-entropy to
the two Dice terms; weights of 0 give the paper's loss. The weight of the bending energy depends on the voxel size, see
:mod:`deepatlas_tf.losses.smoothness`.

Warped labels teach the segmentation network the errors of the registration too (Lv et al., AAAI 2023). The setting
``segmentation_pairs`` chooses what the anatomy terms of its turn are of:

- ``paper``: the two images of the pair, as above.
- ``aligned``: a labelled image and its own label map, both moved part of the way to the other subject, in space by the
  fraction ``a`` of the field and in style by the fraction ``b`` of the difference of the images, ``a`` and ``b`` drawn
  from Beta(0.3, 0.3) for each pair as in BRBS (He et al., TNNLS 2024):

      I_s' = (I_s + b d) o (id + a u),  L_s' = onehot(L_s) o (id + a u),  d = mean_window(I_t o (id + u_back) - I_s)
      w_a L_a(S(I_s'), L_s'), for the classes of which w_s is not 0

  The source ``s`` is the side on which more classes are labelled, the moving one if it is the same number, and ``t``
  the other side, of which no label is used; ``u = R(I_s, I_t)``, ``u_back = R(I_t, I_s)``. The label belongs to the
  image whatever the registration does; where it errs, the image is only a less likely one. For this the difference is
  averaged over a window, which BRBS does not, see :mod:`deepatlas_tf.ops.space_style`. Of a diffeomorphic network the
  fraction is that of the velocity field, ``exp(a v)``, so that it stays diffeomorphic.
- ``weighted``: as ``paper``, each voxel of the anatomy terms weighted by the confidence in the registration,
  ``exp(-|e / 2|^2 - r^2)``, with the inverse-consistency error ``e`` of ``R(I_m, I_f)`` and ``R(I_f, I_m)`` in voxels
  and the residual ``r`` of the images in standard deviations, see :mod:`deepatlas_tf.losses.confidence`.

Where a stage has pseudo masks (``pseudo_from``), their class probabilities ``Q_k`` take the place of the predictions in
the anatomies, and are what the segmentation network learns of images without a label, beside the labels:

    A(k) = w_k onehot(L_k) + (1 - w_k) Q_k,      w_sp sum_k (1 - w_k) L_sp(S(I_k), Q_k)

``Q_k`` is the mean of what both networks say, the predictions and labels that are warped, whose errors differ: see
:mod:`deepatlas_tf.training.pseudo`. It stays as it is for the whole stage.

With ``registration_confidence`` the anatomy term of the registration turn is weighted, voxel by voxel, by the
confidence of the segmentation network, ``(q_m o (id + u)) q_f``, where ``q_k`` is 1 for labelled classes and ``max(0, 1
- H)`` for the others, with the entropy ``H`` of ``A(k)`` in bits: where the network is not sure, it does not pull. No
gradient passes through the weights of either turn. Voxels that a label map ignores count in none of its terms.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from deepatlas_tf.keras_stack import compiled_by_xla, keras, tf
from deepatlas_tf.losses.confidence import alignment_confidence, confidence_in_labels, prediction_confidence
from deepatlas_tf.losses.overlap import dice_and_cross_entropy, soft_dice
from deepatlas_tf.losses.pair_overlap import SIDES, TERMS, is_partial, joint_overlap, side_overlap
from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.losses.smoothness import bending_energy
from deepatlas_tf.losses.warped_overlap import Anatomy, warped_soft_dice
from deepatlas_tf.methods.base import Method, Part
from deepatlas_tf.models.layers import SpatialTransformer
from deepatlas_tf.models.velocity import split_integration
from deepatlas_tf.ops.labels import known_part, mix, one_hot, per_example
from deepatlas_tf.ops.space_style import beta_fractions, style_difference
from deepatlas_tf.types import Pair, Sample, SettingError, Side, Tensor

PAPER_TURNS = ("registration",) * 20 + ("segmentation",)
SEGMENTATION_PAIRS = ("paper", "aligned", "weighted")


class DeepAtlas(Method):
    """The two networks, trained on a stream of :class:`~deepatlas_tf.types.Pair`.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels.
        segmentation: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``.
        turns: which net is updated, in order, again and again.
        similarity: a key of ``SIMILARITIES`` in :mod:`deepatlas_tf.losses.similarity`; similarity_settings: its keyword
            arguments.
        segmentation_pairs: one of ``SEGMENTATION_PAIRS``; registration_confidence: see the module.

    Raises:
        SettingError: if ``segmentation_pairs`` is something else.
    """

    network_roles = {"registration": "registration", "segmentation": "segmentation"}
    stream = "pairs"
    knows_ignored = True
    stage_arguments = ("turns", "similarity", "similarity_settings")
    label_terms = ("supervised", "supervised_cross_entropy")
    default_turns = {"registration": 20, "segmentation": 1}
    default_settings = {"segmentation_pairs": "paper", "registration_confidence": False}
    setting_choices = {"segmentation_pairs": SEGMENTATION_PAIRS}
    default_weights = {
        "registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 1.0},
        "segmentation": {
            "anatomy": 1.0,
            "anatomy_cross_entropy": 0.0,
            "supervised": 1.0,
            "supervised_cross_entropy": 1.0,
        },
    }

    def __init__(
        self,
        registration: keras.Model,
        segmentation: keras.Model,
        turns: Sequence[str] = PAPER_TURNS,
        similarity: str = "ncc",
        similarity_settings: Mapping[str, float] | None = None,
        segmentation_pairs: str = "paper",
        registration_confidence: bool = False,
        **kwargs: Any,
    ):
        if segmentation_pairs not in SEGMENTATION_PAIRS:
            known = " or ".join(repr(name) for name in SEGMENTATION_PAIRS)
            raise SettingError(f"segmentation_pairs is {known}, not {segmentation_pairs!r}")
        super().__init__({"registration": registration, "segmentation": segmentation}, turns, **kwargs)
        self.similarity = similarity_function(similarity, similarity_settings)
        self.warp = SpatialTransformer(name="warp")
        self.segmentation_pairs = segmentation_pairs
        self.registration_confidence = registration_confidence
        self.head, self.integrate = split_integration(registration)

    @classmethod
    def field_regularisers(cls, field: Tensor, u: Tensor) -> dict[str, Tensor]:
        """The bending energy of the displacement field."""
        return {"smoothness": bending_energy(u)}

    def registration_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms of the registration turn for each pair, ``(B,)``; the segmentation network is frozen."""
        moving, fixed = pair["moving"], pair["fixed"]
        u = self.nets["registration"]([moving["image"], fixed["image"]], training=True)
        anatomy = self._confident_anatomy_term if self.registration_confidence else self._anatomy_term
        return {
            "similarity": self.similarity(self.warp([moving["image"], u]), fixed["image"]),
            "smoothness": bending_energy(u),
            "anatomy": anatomy(pair, u),
        }

    def _anatomy_term(self, pair: Pair, u: Tensor) -> Tensor:
        """Soft Dice of the pair; the network only sees images of which some class is not labelled."""
        moving, fixed = (self._anatomy_if_needed(pair[side]) for side in ("moving", "fixed"))
        return warped_soft_dice(moving, fixed, u, pair["moving"]["label_weight"].shape[-1])

    def _anatomy_if_needed(self, side: Sample) -> Anatomy:
        weight, labelled = side["label_weight"], tf.reduce_all(side["label_weight"] == 1)
        n_empty = tf.shape(weight)[0] if compiled_by_xla() else 0  # branches of one shape, if XLA compiles the turn
        nothing = tf.zeros((n_empty, *side["image"].shape[1:-1], weight.shape[-1]))
        probabilities = tf.cond(labelled, lambda: nothing, lambda: self._anatomy(side))
        return Anatomy(side["label"], probabilities, labelled, side.get("known"))

    def _anatomy(self, side: Sample) -> Tensor:
        if "soft_label" in side:
            prediction = side["soft_label"]
        else:
            prediction = self.nets["segmentation"](side["image"], training=False)
        anatomy = mix(side["label"], side["label_weight"], prediction)
        return anatomy * side["known"] if "known" in side else anatomy

    def _confident_anatomy_term(self, pair: Pair, u: Tensor) -> Tensor:
        anatomy_moving, anatomy_fixed = self._anatomy(pair["moving"]), self._anatomy(pair["fixed"])
        both = tf.concat([anatomy_moving, prediction_confidence(anatomy_moving)], axis=-1)
        anatomy, confidence = tf.split(self.warp([both, u]), [anatomy_fixed.shape[-1], 1], axis=-1)
        weight, known = confidence_in_labels(pair, confidence, anatomy_fixed), None
        if "known" in pair["fixed"]:
            anatomy, known = known_part(anatomy)
            known *= pair["fixed"]["known"]
        return soft_dice(anatomy, anatomy_fixed, None, weight, known)

    def segmentation_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms of the segmentation turn for each pair, ``(B,)``; the registration network is frozen."""
        aligned = self.segmentation_pairs == "aligned"
        parts = self._aligned_parts(pair) if aligned else [Part(partial(self._terms_of_both, pair, *self._field(pair)))]
        of_parts = [part.terms() for part in [*parts, *self._pseudo_parts(pair)]]
        return {name: tf.add_n([terms[name] for terms in of_parts]) for name in TERMS}

    def parts(self, turn: str, data: Pair) -> Sequence[Part]:
        """The terms of the segmentation turn one image after the other, wherever the labels allow it."""
        if turn != "segmentation":
            return super().parts(turn, data)
        return [*self._label_parts(data), *self._pseudo_parts(data)]

    def _label_parts(self, data: Pair) -> list[Part]:
        if self.segmentation_pairs == "aligned":
            return self._aligned_parts(data)
        field = self._field(data)
        if "known" in data["moving"]:
            return [Part(partial(self._terms_of_both, data, *field))]
        sides = [partial(self._terms_of_side, data, side, *field) for side in SIDES]
        if not self.partial_labels:
            return list(map(Part, sides))
        together = is_partial(data)
        both = Part(partial(self._terms_of_both, data, *field), needed=together)
        return [both, *(Part(terms, needed=tf.logical_not(together)) for terms in sides)]

    def _pseudo_parts(self, pair: Pair) -> list[Part]:
        """The terms of the pseudo masks, of each image for the classes that are not labelled; none without masks."""

        def pseudo(side: Sample) -> dict[str, Tensor]:
            mask = side["soft_label"]
            known = tf.reduce_sum(mask, axis=-1, keepdims=True)  # 0 where a gate has emptied the mask
            prediction = self.nets["segmentation"](side["image"], training=True)
            losses = dice_and_cross_entropy(prediction, mask, 1 - side["label_weight"], known)
            return _by_name(tf.concat([tf.zeros_like(losses), losses], axis=0))

        sides = [pair[side] for side in SIDES if "soft_label" in pair[side]]
        return [Part(partial(pseudo, side), needed=tf.reduce_any(side["label_weight"] < 1)) for side in sides]

    def _terms_of_both(self, pair: Pair, u: Tensor, voxel_weight: Tensor | None) -> dict[str, Tensor]:
        # in two calls, which is faster than one of both
        predictions = [self.nets["segmentation"](pair[side]["image"], training=True) for side in SIDES]
        return _by_name(joint_overlap(pair, predictions, u, voxel_weight))

    def _terms_of_side(self, pair: Pair, side: Side, u: Tensor, voxel_weight: Tensor | None) -> dict[str, Tensor]:
        prediction = self.nets["segmentation"](pair[side]["image"], training=True)
        return _by_name(side_overlap(pair, side, prediction, u, voxel_weight))

    def _aligned_parts(self, pair: Pair) -> list[Part]:
        """The anatomy terms, of a labelled image that is on its way to the other subject, and those of both labels.

        What has no label at all is not needed.
        """
        labelled = {side: tf.reduce_any(pair[side]["label_weight"] > 0) for side in SIDES}

        def anatomies() -> dict[str, Tensor]:
            image, anatomy, label_weight = self.aligned(pair)
            anatomy, known = known_part(anatomy) if "known" in pair["moving"] else (anatomy, None)
            prediction = self.nets["segmentation"](image, training=True)
            losses = dice_and_cross_entropy(prediction, anatomy, label_weight, known=known)
            return _by_name(tf.concat([losses, tf.zeros_like(losses)], axis=0))

        def supervised(side: Sample) -> dict[str, Tensor]:
            prediction = self.nets["segmentation"](side["image"], training=True)
            losses = dice_and_cross_entropy(prediction, side["label"], side["label_weight"], known=side.get("known"))
            return _by_name(tf.concat([tf.zeros_like(losses), losses], axis=0))

        of_labels = [Part(partial(supervised, pair[side]), needed=labelled[side]) for side in SIDES]
        return [Part(anatomies, needed=tf.reduce_any(list(labelled.values()))), *of_labels]

    def aligned(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """A labelled image of each pair, moved part of the way to the other subject, and its anatomy likewise.

        Returns:
            image ``(B, *S, K)`` in [0, 1], anatomy ``(B, *S, C)``, and the weights of its classes ``(B, C)``.
        """
        source, target = _labelled_first(pair)
        field, field_back = self._both_ways(self.head, source["image"], target["image"])
        step = self.optimizers_by_net["segmentation"].iterations
        in_space, in_style = tf.unstack(beta_fractions(tf.shape(field)[0], step))
        field *= per_example(in_space, field)
        if self.integrate:
            field, field_back = self.integrate(field), self.integrate(field_back)
        difference = style_difference(source["image"], target["image"], field_back)
        image = tf.clip_by_value(source["image"] + per_example(in_style, difference) * difference, 0, 1)
        anatomy = one_hot(source["label"], source["label_weight"].shape[-1])
        moved = self.warp([tf.concat([image, anatomy], axis=-1), field])
        return (*tf.split(moved, [image.shape[-1], anatomy.shape[-1]], axis=-1), source["label_weight"])

    def _field(self, pair: Pair) -> tuple[Tensor, Tensor | None]:
        """The displacement field from the frozen network, and the confidence in it if pairs are weighted, else None."""
        net, moving, fixed = self.nets["registration"], pair["moving"]["image"], pair["fixed"]["image"]
        if self.segmentation_pairs != "weighted":
            return net([moving, fixed], training=False), None
        u, u_back = self._both_ways(net, moving, fixed)
        return u, tf.stop_gradient(alignment_confidence(moving, fixed, u, u_back))

    def _both_ways(self, net: keras.Model, moving: Tensor, fixed: Tensor) -> Sequence[Tensor]:
        """What a registration network gives for both directions, from one call."""
        images = [tf.concat([moving, fixed], axis=0), tf.concat([fixed, moving], axis=0)]
        return tf.split(net(images, training=False), 2, axis=0)


def _by_name(losses: Tensor) -> dict[str, Tensor]:
    return dict(zip(TERMS, tf.unstack(losses), strict=True))


def _labelled_first(pair: Pair) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Image, label and label_weight of either side of each pair: the one with more labelled classes, then the other."""
    moving, fixed = pair["moving"], pair["fixed"]
    n_labelled = [tf.reduce_sum(side["label_weight"], axis=-1) for side in (moving, fixed)]
    swapped = n_labelled[1] > n_labelled[0]  # (B,)

    def choose(one: Sample, other: Sample) -> dict[str, Tensor]:
        return {
            name: tf.where(per_example(swapped, one[name]), one[name], other[name])
            for name in ("image", "label", "label_weight")
        }

    return choose(fixed, moving), choose(moving, fixed)
