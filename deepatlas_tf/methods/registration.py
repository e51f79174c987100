"""Registration by a network: VoxelMorph (Balakrishnan et al., TMI 2019), unsupervised or with label maps.

    u = R(I_m, I_f)
    L = w_i L_i(I_m o (id + u), I_f) + w_r L_r(u) + w_a [both labelled] L_a(A_m o (id + u), A_f)

``L_i`` is 1 - NCC by default (setting ``similarity``: ``ncc``, ``local_ncc`` or ``mse``), ``L_r`` the bending energy
and ``L_a`` the soft Dice; weights ``registration/similarity``, ``smoothness`` and ``anatomy``. With the weight of
``anatomy`` at 0, the default, it is unsupervised. A pair with a label on one side or none is registered by its images
alone: this is the weakly supervised baseline of DeepAtlas.
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.losses.similarity import SIMILARITIES
from deepatlas_tf.losses.smoothness import bending_energy
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.layers import SpatialTransformer
from deepatlas_tf.ops.labels import one_hot


class Registration(Method):
    """A registration network trained on a stream of :class:`~deepatlas_tf.types.Pair`.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, 1) -> u (B, *S, D)`` in voxels.
        n_classes: number of classes of the label maps, background included.
        similarity: a key of ``SIMILARITIES`` in :mod:`deepatlas_tf.losses.similarity`.
    """

    stream = "pairs"
    default_turns = {"registration": 1}
    default_weights = {"registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 0.0}}

    def __init__(self, registration, n_classes: int, similarity: str = "ncc", **kwargs):
        super().__init__({"registration": registration}, turns=("registration",), **kwargs)
        self.n_classes = n_classes
        self.similarity = SIMILARITIES[similarity]
        self.warp = SpatialTransformer(name="warp")

    def registration_terms(self, pair):
        """Terms for each pair, ``(B,)``."""
        moving, fixed = pair["moving"], pair["fixed"]
        u = self.nets["registration"]([moving["image"], fixed["image"]], training=True)
        both_labelled = tf.minimum(moving["label_weight"], fixed["label_weight"])
        warped_label = self.warp([one_hot(moving["label"], self.n_classes), u])
        return {
            "similarity": self.similarity(self.warp([moving["image"], u]), fixed["image"]),
            "smoothness": bending_energy(u),
            "anatomy": both_labelled * soft_dice(warped_label, one_hot(fixed["label"], self.n_classes)),
        }
