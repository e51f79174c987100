"""Mean Teacher: semi-supervised segmentation (Tarvainen & Valpola, NeurIPS 2017; in 3D: Yu et al., MICCAI 2019).

    L = 0.5 L_dice(S(I), A) + 0.5 L_ce(S(I), A) + w(t) 1/|V| sum_x sum_c (S_c(I + n1)(x) - T_c(I + n2)(x))^2
    T <- a T + (1 - a) S          after each step, of all weights

The student ``S`` is trained, the teacher ``T`` is the moving average of its weights. The first two terms are over the
labelled samples, the third, ``consistency``, over all. Settings of the method:

- ``decay``: ``a = min(decay, 1 - 1 / (t + 1))`` after step ``t = 1, 2, ...``: first the mean of all students so far.
- ``ramp``: ``w(t) = exp(-5 (1 - t / T)^2)``, with ``T = ramp * steps`` of the stage, and 1 from there on.
- ``noise``: ``n1`` and ``n2`` are independent, Gaussian of this standard deviation and held within twice that. Yu et
  al. have 0.1 for images of standard deviation 1; here images are in [0, 1], where 0.03 is about as much. Student and
  teacher both see noise; the supervised terms are of the student's prediction under noise, so that a step takes one
  pass of each network.

The teacher is the better network and is what a stage leaves as ``segmentation``: it is validated, saved, evaluated and
exported. The student is saved beside it, as ``student``. A checkpoint holds both.
"""

from typing import Any

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.methods.base import Method, supervised_terms
from deepatlas_tf.models.functional import copy_of
from deepatlas_tf.types import Sample, Tensor


class MeanTeacher(Method):
    """A segmentation network and its moving average, trained on a stream of :class:`~deepatlas_tf.types.Sample`.

    Args:
        segmentation: Keras model ``image (B, *S, K) -> probabilities (B, *S, C)``; it becomes the teacher, and a copy
            of it the student. A subclass of ``keras.Model`` is copied by its ``get_config``, and was called before.
        steps: of the whole stage.
        decay, ramp, noise: see the module.

    Raises:
        SettingError: if the network cannot be copied.
    """

    network_roles = {"segmentation": "segmentation"}
    stream = "samples"
    knows_ignored = True
    stage_arguments = ("steps",)
    label_terms = ("supervised", "supervised_cross_entropy")
    updates = {"segmentation": ("student", "segmentation")}
    default_turns = {"segmentation": 1}
    default_settings = {"decay": 0.99, "ramp": 0.3, "noise": 0.03}
    default_weights = {"segmentation": {"supervised": 0.5, "supervised_cross_entropy": 0.5, "consistency": 1.0}}

    def __init__(
        self,
        segmentation: keras.Model,
        steps: int,
        decay: float = 0.99,
        ramp: float = 0.3,
        noise: float = 0.03,
        **kwargs: Any,
    ):
        nets = {"segmentation": segmentation, "student": copy_of(segmentation)}
        super().__init__(nets, turns=("segmentation",), **kwargs)
        self.decay, self.ramp_steps, self.noise = decay, max(1.0, ramp * steps), noise

    def segmentation_terms(self, sample: Sample) -> dict[str, Tensor]:
        """Terms for each example, ``(B,)``; classes without a label, ignored voxels count only for ``consistency``."""
        noise = self._noise(sample["image"])
        prediction = self.nets["student"](sample["image"] + noise[0], training=True)
        target = tf.stop_gradient(self.nets["segmentation"](sample["image"] + noise[1], training=True))
        step = tf.cast(self.optimizers_by_net["segmentation"].iterations, tf.float32)
        return {
            **supervised_terms(prediction, sample["label"], sample["label_weight"], known=sample.get("known")),
            "consistency": sigmoid_ramp(step, self.ramp_steps) * consistency(prediction, target),
        }

    def update(self, turn: str, data: Sample) -> None:
        """One step of the student, then one of the average."""
        super().update(turn, data)
        done = tf.cast(self.optimizers_by_net[turn].iterations, tf.float32)
        decay = tf.minimum(self.decay, 1 - 1 / (done + 1))
        tf.distribute.get_replica_context().merge_call(self._average, args=(decay,))

    def _average(self, strategy: tf.distribute.Strategy, decay: Tensor) -> None:
        # In the cross-replica context, where variables of every strategy may be assigned
        for teacher, student in zip(self.nets["segmentation"].weights, self.nets["student"].weights, strict=True):
            if teacher.dtype.is_floating:
                strategy.extended.update(teacher, _move_towards, args=(student, decay))

    def _variables(self, turn: str) -> list[tf.Variable]:
        return self.nets["student"].trainable_variables

    def _noise(self, image: Tensor) -> Tensor:
        """Two noise images of the batch, ``(2, B, *S, K)``, that follow from the step, on any number of replicas."""
        replica = tf.distribute.get_replica_context()
        n_replicas, index = replica.num_replicas_in_sync, replica.replica_id_in_sync_group
        n = tf.shape(image)[0]
        shape = tf.concat([[2, n * n_replicas], tf.shape(image)[1:]], axis=0)
        seed = tf.stack([tf.cast(self.optimizers_by_net["segmentation"].iterations, tf.int32), 0])
        noise = self.noise * tf.random.stateless_normal(shape, seed)[:, index * n : (index + 1) * n]
        return tf.clip_by_value(noise, -2 * self.noise, 2 * self.noise)


def sigmoid_ramp(step: Tensor, length: float) -> Tensor:
    """Ramp-up of Laine & Aila (ICLR 2017): ``exp(-5 (1 - t / T)^2)`` up to ``T = length``, then 1."""
    return tf.exp(-5 * (1 - tf.minimum(step / length, 1)) ** 2)


def consistency(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of two class distributions, averaged over the voxels: ``(B, *S, C)`` twice -> ``(B,)``."""
    squared = tf.reduce_sum(tf.math.squared_difference(prediction, target), axis=-1)
    return tf.reduce_mean(squared, axis=list(range(1, squared.shape.rank)))


def _move_towards(teacher: tf.Variable, student: tf.Variable, decay: Tensor) -> None:
    teacher.assign(decay * teacher + (1 - decay) * student)
