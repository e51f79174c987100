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
"""

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.losses.overlap import cross_entropy, soft_dice
from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.losses.smoothness import bending_energy
from deepatlas_tf.methods.base import Method
from deepatlas_tf.models.layers import SpatialTransformer
from deepatlas_tf.ops.labels import mix, one_hot

PAPER_TURNS = ("registration",) * 20 + ("segmentation",)


class DeepAtlas(Method):
    """The two networks, trained on a stream of :class:`~deepatlas_tf.types.Pair`.

    Args:
        registration: Keras model ``[moving, fixed] (B, *S, 1) -> u (B, *S, D)`` in voxels.
        segmentation: Keras model ``image (B, *S, 1) -> probabilities (B, *S, C)``.
        turns: which net is updated, in order, again and again.
        similarity: a key of ``SIMILARITIES`` in :mod:`deepatlas_tf.losses.similarity`; similarity_settings: its keyword
            arguments.
    """

    stream = "pairs"
    default_turns = {"registration": 20, "segmentation": 1}
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
        self, registration, segmentation, turns=PAPER_TURNS, similarity="ncc", similarity_settings=None, **kwargs
    ):
        super().__init__({"registration": registration, "segmentation": segmentation}, turns, **kwargs)
        self.similarity = similarity_function(similarity, similarity_settings)
        self.warp = SpatialTransformer(name="warp")

    def registration_terms(self, pair):
        """Terms of the registration turn for each pair, ``(B,)``; the segmentation network is frozen."""
        moving, fixed = pair["moving"], pair["fixed"]
        u = self.nets["registration"]([moving["image"], fixed["image"]], training=True)
        anatomy_moving, anatomy_fixed = _anatomies(pair, *self._predictions(pair, training=False))
        # One warp of image and anatomy together costs less than two
        warped = self.warp([tf.concat([moving["image"], anatomy_moving], axis=-1), u])
        return {
            "similarity": self.similarity(warped[..., :1], fixed["image"]),
            "smoothness": bending_energy(u),
            "anatomy": soft_dice(warped[..., 1:], anatomy_fixed),
        }

    def segmentation_terms(self, pair):
        """Terms of the segmentation turn for each pair, ``(B,)``; the registration network is frozen."""
        moving, fixed = pair["moving"], pair["fixed"]
        predictions = self._predictions(pair, training=True)
        u = self.nets["registration"]([moving["image"], fixed["image"]], training=False)
        anatomy_moving, anatomy_fixed = _anatomies(pair, *predictions)
        warped = self.warp([anatomy_moving, u])
        one_labelled = tf.maximum(moving["label_weight"], fixed["label_weight"])  # (B, C)
        return {
            "anatomy": soft_dice(warped, anatomy_fixed, one_labelled),
            "anatomy_cross_entropy": _anatomy_cross_entropy(pair, warped, anatomy_fixed),
            "supervised": _supervised(pair, predictions, soft_dice),
            "supervised_cross_entropy": _supervised(pair, predictions, cross_entropy),
        }

    def _predictions(self, pair, training):
        """Class probabilities of the moving and of the fixed image, from one call of the network."""
        images = tf.concat([pair["moving"]["image"], pair["fixed"]["image"]], axis=0)
        return tf.split(self.nets["segmentation"](images, training=training), 2, axis=0)


def _anatomies(pair, *predictions):
    samples = (pair["moving"], pair["fixed"])
    return [mix(s["label"], s["label_weight"], p) for s, p in zip(samples, predictions, strict=True)]


def _anatomy_cross_entropy(pair, warped, anatomy_fixed):
    """Cross-entropy of the predicted side against the labelled one; 0 where both sides or none are labelled."""
    w_moving, w_fixed = pair["moving"]["label_weight"], pair["fixed"]["label_weight"]
    towards_fixed = cross_entropy(anatomy_fixed, warped, w_moving * (1 - w_fixed))
    return towards_fixed + cross_entropy(warped, anatomy_fixed, w_fixed * (1 - w_moving))


def _supervised(pair, predictions, loss):
    samples = (pair["moving"], pair["fixed"])
    return tf.add_n(
        [
            loss(p, one_hot(s["label"], p.shape[-1]), s["label_weight"])
            for s, p in zip(samples, predictions, strict=True)
        ]
    )
