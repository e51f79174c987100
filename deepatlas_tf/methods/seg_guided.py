"""Registration between two domains by their label maps: stage 4 of SegGuidedMMReg (Demir & Niethammer, MIDL 2024).

    A_m = onehot(argmax(L_m where labelled and not ignored, else S_A(I_m))),     A_f = the same with S_B
    u = R(A_m, A_f),   u' = R(A_f, A_m)
    L = Dice(A_m o (id + u), A_f) + Dice(A_f o (id + u'), A_m) + lambda |grad(phi o phi' - id)|^2

The images of the two domains are never compared, so that their contrast does not matter; both segmentation networks
are frozen. ``R`` sees one channel for each class, and what is trained and saved as ``registration`` is the whole way
from the two images to the displacement field, ``R(onehot(S_A(I_m)), onehot(S_B(I_f)))``: it is applied as any other.
Terms: ``anatomy``, ``anatomy_inverse`` (1 - mean soft Dice of the foreground; the authors' counts the background too)
and ``gradient_inverse_consistency`` (GradICON). The published lambda, 1.5 of a mean over the components, is
``1.5 / D`` here: the default is that of 3D; take 0.75 in 2D.
"""

from typing import Any

from deepatlas_tf.keras_stack import keras
from deepatlas_tf.losses.consistency import gradient_inverse_consistency
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.checks import check_nets
from deepatlas_tf.models.label_maps import on_label_maps
from deepatlas_tf.ops.labels import mix
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Pair, Side, Tensor


class SegGuided(Method):
    """A registration network trained on a stream of :class:`~deepatlas_tf.types.Pair` from domain A to domain B.

    Args:
        label_registration: ``R``, Keras model ``[moving, fixed] (B, *S, C) -> u (B, *S, D)`` in voxels.
        segmentation_a: ``S_A`` of the moving domain, Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``.
        segmentation: ``S_B`` of the fixed domain, likewise. Both are frozen, and part of ``registration``.

    A network that is a subclass of ``keras.Model`` has to be called once before, so that it knows its inputs.

    Raises:
        SettingError: if it was not, or a network takes another number of images.
    """

    network_roles = {
        "label_registration": "label_registration",
        "segmentation_a": "segmentation",
        "segmentation": "segmentation",
    }
    stream = "pairs"
    knows_ignored = True
    default_turns = {"registration": 1}
    default_weights = {
        "registration": {"anatomy": 1.0, "anatomy_inverse": 1.0, "gradient_inverse_consistency": 0.5},
    }

    def __init__(
        self, label_registration: keras.Model, segmentation_a: keras.Model, segmentation: keras.Model, **kwargs: Any
    ):
        given = {
            "label_registration": label_registration,
            "segmentation_a": segmentation_a,
            "segmentation": segmentation,
        }
        check_nets(type(self).__name__, given, self.network_roles)
        registration = on_label_maps(label_registration, segmentation_a, segmentation)
        super().__init__({"registration": registration}, turns=("registration",), **kwargs)

    def registration_terms(self, pair: Pair) -> dict[str, Tensor]:
        """Terms for each pair, ``(B,)``."""
        moving, fixed = (self._anatomy(pair, side) for side in ("moving", "fixed"))
        register = self.nets["registration"].get_layer("label_registration")
        u = register([moving, fixed], training=True)
        u_back = register([fixed, moving], training=True)
        return {
            "anatomy": soft_dice(warp(moving, u), fixed),
            "anatomy_inverse": soft_dice(warp(fixed, u_back), moving),
            "gradient_inverse_consistency": gradient_inverse_consistency(u, u_back),
        }

    def _anatomy(self, pair: Pair, side: Side) -> Tensor:
        """One-hot label map ``(B, *S, C)``: the label where there is one, else the most probable class."""
        sample, net = pair[side], self.nets["registration"]
        probabilities = net.get_layer(f"segmentation_{side}")(sample["image"], training=False)
        anatomy = mix(sample["label"], sample["label_weight"], probabilities, sample.get("known"))
        return net.get_layer(f"label_map_{side}")(anatomy)
