"""Unsupervised domain adaptation of a segmentation: stage 3 of SegGuidedMMReg (Demir & Niethammer, MIDL 2024).

A is the domain with labels, the moving side of the pairs; B has none. ``S_A`` is frozen, ``S_B`` begins as a copy of
it. The generators ``G: A -> B`` and ``F: B -> A`` are those of a cycle GAN (Zhu et al., ICCV 2017), ``D_A`` and ``D_B``
its discriminators:

    turn generators      (D_B(G(a)) - 1)^2 + (D_A(F(b)) - 1)^2                           adversarial
                         |F(G(a)) - a| + |G(F(b)) - b|                                   cycle
                         |G(b) - b| + |F(a) - a|                                         identity
                         Dice(S_B(G(a)), y)                                              dice_translated
                         Dice(S_A(F(G(a))), y)                                           dice_cycled
                         Dice(S_B(b), S_A(F(b)))                                         dice_agreement
                         Dice(S_A(F(b)), S_B(G(F(b))))                                   dice_agreement_cycled
    turn discriminators  1/2 [(D_B(b) - 1)^2 + D_B(G(a))^2 + (D_A(a) - 1)^2 + D_A(F(b))^2]   discrimination

Each is a mean over voxels or patches; Dice is 1 - mean soft Dice of the foreground (the authors' counts the background
too). ``y`` is the label map as far as it goes and ``S_A(a)`` for the rest, as for ignored voxels. The default weights
are the published ones.
The turn ``generators`` updates both generators and ``S_B`` together. The authors show the discriminators a buffer of
50 older translations; here they see those of the present generators.
"""

from collections.abc import Callable, Sequence
from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.losses.adversarial import absolute_difference, discrimination, least_squares
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.methods.base import Method
from deepatlas_tf.ops.labels import mix
from deepatlas_tf.types import Pair, Tensor


class DomainAdaptation(Method):
    """A segmentation network of domain B, trained on a stream of :class:`~deepatlas_tf.types.Pair` from A to B.

    Args:
        segmentation: ``S_B``, Keras model ``image (B, *S, 1) -> probabilities (B, *S, C)``.
        segmentation_a: ``S_A``, likewise; it is frozen.
        generator_ab: ``G``, Keras model ``image (B, *S, 1) -> image (B, *S, 1)``.
        generator_ba: ``F``, likewise.
        discriminator_a: Keras model ``image (B, *S, 1) -> scores (B, *S', 1)``.
        discriminator_b: likewise.
        turns: ``generators`` and ``discriminators``, in the order in which they are updated, again and again.
    """

    network_roles = {
        "segmentation": "segmentation",
        "segmentation_a": "segmentation",
        "generator_ab": "generator",
        "generator_ba": "generator",
        "discriminator_a": "discriminator",
        "discriminator_b": "discriminator",
    }
    stream = "pairs"
    knows_ignored = True
    stage_arguments = ("turns",)
    updates = {
        "generators": ("generator_ab", "generator_ba", "segmentation"),
        "discriminators": ("discriminator_a", "discriminator_b"),
    }
    beta_1 = 0.5  # of Adam, as usual against discriminators, whose gradients change quickly
    default_turns = {"generators": 1, "discriminators": 1}
    default_weights = {
        "generators": {
            "adversarial": 1.0,
            "cycle": 10.0,
            "identity": 5.0,
            "dice_translated": 5.0,
            "dice_cycled": 5.0,
            "dice_agreement": 5.0,
            "dice_agreement_cycled": 5.0,
        },
        "discriminators": {"discrimination": 1.0},
    }

    def __init__(
        self,
        segmentation: keras.Model,
        segmentation_a: keras.Model,
        generator_ab: keras.Model,
        generator_ba: keras.Model,
        discriminator_a: keras.Model,
        discriminator_b: keras.Model,
        turns: Sequence[str] = ("generators", "discriminators"),
        **kwargs: Any,
    ):
        nets = {
            "segmentation": segmentation,
            "segmentation_a": segmentation_a,
            "generator_ab": generator_ab,
            "generator_ba": generator_ba,
            "discriminator_a": discriminator_a,
            "discriminator_b": discriminator_b,
        }
        super().__init__(nets, turns, **kwargs)

    def labelled_sides(self) -> tuple[str, ...]:
        """Labels are those of the moving side."""
        return ("moving",)

    def generators_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms of the generators and of ``S_B`` for each pair, ``(B,)``."""
        sample, a, b = pair["moving"], pair["moving"]["image"], pair["fixed"]["image"]
        to_b, to_a = self._net("generator_ab"), self._net("generator_ba")
        # One call of each generator on two images costs less than two
        in_b, same_b = tf.split(to_b(tf.concat([a, b], axis=0)), 2, axis=0)
        in_a, same_a = tf.split(to_a(tf.concat([b, a], axis=0)), 2, axis=0)
        back_a, back_b = to_a(in_b), to_b(in_a)
        p_a, p_in_a, p_back_a = self._probabilities("segmentation_a", False, a, in_a, back_a)
        p_b, p_in_b, p_back_b = self._probabilities("segmentation", True, b, in_b, back_b)
        y = mix(sample["label"], sample["label_weight"], p_a, sample.get("known"))
        scores = [self._net("discriminator_b")(in_b), self._net("discriminator_a")(in_a)]
        return {
            "adversarial": tf.add_n([least_squares(score, 1.0) for score in scores]),
            "cycle": absolute_difference(back_a, a) + absolute_difference(back_b, b),
            "identity": absolute_difference(same_a, a) + absolute_difference(same_b, b),
            "dice_translated": soft_dice(p_in_b, y),
            "dice_cycled": soft_dice(p_back_a, y),
            "dice_agreement": soft_dice(p_b, p_in_a),
            "dice_agreement_cycled": soft_dice(p_in_a, p_back_b),
        }

    def discriminators_terms(self, pair: Pair) -> dict[str, Tensor]:
        """The term of both discriminators for each pair, ``(B,)``; the generators are frozen."""
        a, b = pair["moving"]["image"], pair["fixed"]["image"]
        in_b = self.nets["generator_ab"](a, training=False)
        in_a = self.nets["generator_ba"](b, training=False)
        terms = []
        for name, real, generated in (("discriminator_a", a, in_a), ("discriminator_b", b, in_b)):
            scores = self._net(name)(tf.concat([real, generated], axis=0))
            terms.append(discrimination(*tf.split(scores, 2, axis=0)))
        return {"discrimination": tf.add_n(terms)}

    def _net(self, name: str) -> Callable[[Tensor], Tensor]:
        return lambda image: self.nets[name](image, training=True)

    def _probabilities(self, name: str, training: bool, *images: Tensor) -> Sequence[Tensor]:
        """Class probabilities of several batches of images, from one call of the network."""
        return tf.split(self.nets[name](tf.concat(images, axis=0), training=training), len(images), axis=0)
