"""Instance optimisation: a network's field for one pair, refined at test time under the loss it was trained with.

Balakrishnan et al. (TMI 2019) call it instance-specific optimisation: gradient descent on the field of one pair and
their loss. Here the steps are those of Adam (Kingma & Ba, ICLR 2015), smoothed by a Gaussian, and the field is composed
with each of them, first at half the resolution and then at the full one, as greedy diffeomorphic registration does
(Avants et al., MedIA 2008). Of a diffeomorphic network it is the velocity field that they are added to. The loss has
the similarity of the stage and the regularisers of its method, see
:meth:`~deepatlas_tf.methods.base.Method.field_regularisers`. With ``inverse_consistency`` or
``gradient_inverse_consistency`` the fields of both directions are refined together.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.losses.consistency import gradient_inverse_consistency, inverse_consistency
from deepatlas_tf.losses.overlap import soft_dice
from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.layers import CropLike, UpsampleField
from deepatlas_tf.models.velocity import split_integration
from deepatlas_tf.ops.filters import gaussian_smoothing
from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import SettingError, Tensor

CONSISTENCIES = ("inverse_consistency", "gradient_inverse_consistency")
REGULARISERS = ("smoothness", "gradient", "gradient_l1", *CONSISTENCIES)
SIGMA = 1.4  # voxels, of the Gaussian that smooths a step
GAIN, PATIENCE = 1e-3, 15  # it stops where so many steps have not lowered the loss of any pair by this part
SMALLEST = 40  # voxels along each axis, of a grid that has a coarser one: on a small one it would see no anatomy
ANATOMY = 1.0  # the weight of the anatomy where a stage had none
TERMS = ("similarity", "similarity_inverse", "anatomy", "anatomy_inverse", *REGULARISERS)


@dataclasses.dataclass(frozen=True)
class InstanceOptimisation:
    """How a field is refined: the loss, and for how long.

    steps: the largest number of steps, of both resolutions together; 0 leaves the field as it is.
    learning_rate: of Adam, in voxels of the grid at hand: a vector of the field changes by about this much in a step.
    similarity, similarity_settings: the same as those of a stage.
    weights: the weights of the terms, ``TERMS``, which are those of :mod:`deepatlas_tf.methods.voxelmorph`. Terms of
        the inverse direction do not change the field of a network without velocities, unless both directions are
        refined; terms of the anatomy count only where anatomies are given.
    method: the name of the method whose regularisers these are, see the module.
    """

    steps: int = 100
    learning_rate: float = 0.2
    similarity: str = "ncc"
    similarity_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"similarity": 1.0, "smoothness": 1.0})
    method: str = "voxelmorph"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(TERMS))
        if unknown:
            raise SettingError(f"instance optimisation has no term {unknown[0]!r}; there are {', '.join(TERMS)}")
        if self.steps < 0 or self.learning_rate <= 0:
            raise SettingError("instance optimisation takes steps of 0 or more and a learning rate above 0")
        if not self.weights.get("similarity"):
            raise SettingError("instance optimisation needs a weight for the similarity")
        if not any(self.weights.get(term) for term in REGULARISERS):
            raise SettingError(f"instance optimisation needs a weight for one of {', '.join(REGULARISERS)}")

    def with_anatomy(self) -> "InstanceOptimisation":
        """The same settings with a weight for the anatomy: ``ANATOMY`` where there was none."""
        weights = {**self.weights, "anatomy": self.weights.get("anatomy") or ANATOMY}
        return dataclasses.replace(self, weights=weights)

    @property
    def both_directions(self) -> bool:
        """Whether the fields of both directions are refined together."""
        return any(self.weights.get(term) for term in CONSISTENCIES)

    @classmethod
    def of_stage(cls, stage: Mapping[str, Any], **settings: Any) -> "InstanceOptimisation":
        """Make settings with the loss by which a stage trained its registration network.

        Terms that are not in ``TERMS`` are left out.

        Args:
            stage: the settings of a stage as ``experiment.json`` has them.
            settings: ``steps`` and ``learning_rate``.

        Raises:
            SettingError: if the stage has no similarity of images in its loss, or no regulariser.
        """
        weights = {term: w for term, w in stage["weights"].get("registration", {}).items() if w and term in TERMS}
        if "similarity" not in weights:
            raise SettingError(
                f"stage {stage['name']} has no similarity to refine a registration by: choose another stage"
            )
        if not set(weights) & set(REGULARISERS):
            raise SettingError(
                f"stage {stage['name']} has no regulariser, without which a refined field folds: choose another stage"
            )
        loss = {name: stage[name] for name in ("method", "similarity", "similarity_settings") if name in stage}
        return cls(weights=weights, **loss, **settings)


def refiner(net: keras.Model, settings: InstanceOptimisation) -> Callable:
    """Make a function that registers two images by a network and refines the field for this pair.

    It maps ``moving (*S, K), fixed (*S, K)`` to the displacement field ``(*S, D)`` in voxels, with NumPy arrays, and
    can be used in place of :func:`~deepatlas_tf.runs.predict.registrar`. Its keyword ``anatomies``, class probabilities
    ``(*S, C)`` of both images, brings in the term ``anatomy``. It is compiled once for each image size.

    Args:
        net: Keras model ``[moving, fixed] (B, *S, K) -> u (B, *S, D)`` in voxels.
        settings: the loss, and how long.
    """
    head, integrate = split_integration(net)
    programs: dict[tuple, Callable] = {}  # TensorFlow warns of calls with several sizes, not of several programs

    @graph_function
    def refine(moving, fixed, *anatomies):
        field = head([moving, fixed], training=False)
        if settings.both_directions:
            field = tf.concat([field, head([fixed, moving], training=False)], axis=-1)
        field = _directions(optimise(field, moving, fixed, settings, integrate, anatomies or None))[0]
        return integrate(field) if integrate else field

    def register(moving, fixed, anatomies=None):
        inputs = [tf.constant(array[None]) for array in (moving, fixed, *(anatomies or ()))]
        sizes = tuple(tuple(tensor.shape) for tensor in inputs)
        if sizes not in programs:
            programs[sizes] = refine.get_concrete_function(*inputs)
        return programs[sizes](*inputs).numpy()[0]

    return register


def optimise(
    field: Tensor,
    moving: Tensor,
    fixed: Tensor,
    settings: InstanceOptimisation,
    integrate: Callable[[Tensor], Tensor] | None = None,
    anatomies: Sequence[Tensor] | None = None,
) -> Tensor:
    """Refine fields by gradient descent, and give the ones of the least loss on the way.

    So the loss of a result is never higher than that of the first field.

    Half of the steps are at half the resolution, the rest at the full one. Each pair of the batch is optimised for
    itself; all stop together.

    Args:
        field: ``(B, *S, D)`` in voxels to start from; a velocity field where ``integrate`` is given. Where
            ``settings.both_directions``, ``(B, *S, 2 D)``: the field of the other direction as well.
        moving: image ``(B, *S, K)``.
        fixed: image ``(B, *S, K)``.
        settings: the loss, and how long.
        integrate: function from a velocity to a displacement field.
        anatomies: class probabilities ``(B, *S, C)`` of both, or None.

    Returns:
        Of the same shape and kind as ``field``.
    """
    field, moving, fixed = (tf.convert_to_tensor(x) for x in (field, moving, fixed))
    n_coarse = settings.steps // 2
    found = field
    if n_coarse and all(n is None or n >= SMALLEST for n in field.shape[1:-1]):
        coarse = _pooled(field) / 2
        images = [_pooled(moving), _pooled(fixed), anatomies and [_pooled(anatomy) for anatomy in anatomies]]
        corrected = _descend(coarse, coarse, images, n_coarse, settings, integrate)
        found = field + _upsampled(corrected - coarse, field)  # so that no detail of the first field is lost
    return _descend(found, field, [moving, fixed, anatomies], settings.steps - n_coarse, settings, integrate)


def _descend(
    field: Tensor,
    first: Tensor,
    images: Sequence[Any],
    n_steps: int,
    settings: InstanceOptimisation,
    integrate: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Take ``n_steps`` steps from ``field`` on, at one resolution; gives the best field, which may be ``first``."""
    moving, fixed, anatomies = images

    def step(index, field, mean, square, best_loss, best, gained):
        with tf.GradientTape() as tape:
            tape.watch(field)
            loss = instance_loss(field, moving, fixed, settings, integrate, anatomies)
        update, mean, square = _adam(tape.gradient(loss, field), mean, square, index)
        update = -settings.learning_rate * gaussian_smoothing(update, SIGMA)
        gained = tf.where(tf.reduce_any(loss < (1 - GAIN) * best_loss), index, gained)
        best = tf.where(_by_example(loss < best_loss, field), field, best)
        return index + 1, _moved(field, update, integrate), mean, square, tf.minimum(loss, best_loss), best, gained

    def unfinished(index, *state):
        # One round more than steps: the loss after the last step is needed as well
        return (index <= n_steps) & (index - state[-1] < PATIENCE)

    zeros = tf.zeros_like(field)
    best_loss = instance_loss(first, moving, fixed, settings, integrate, anatomies)
    start = (0, field, zeros, zeros, best_loss, first, 0)
    return tf.while_loop(unfinished, step, start, parallel_iterations=1)[-2]


def _moved(field: Tensor, update: Tensor, integrate: Callable[[Tensor], Tensor] | None) -> Tensor:
    """The field after a step.

    A displacement field is composed with the step, which keeps it from folding; a velocity field is added to it.
    """
    if integrate:
        return field + update
    pairs = zip(_directions(field), _directions(update), strict=True)
    return tf.concat([one + warp(u, one) for u, one in pairs if u is not None], axis=-1)


def _by_example(condition: Tensor, field: Tensor) -> Tensor:
    return tf.reshape(condition, (-1, *[1] * (field.shape.rank - 1)))


def _pooled(x: Tensor) -> Tensor:
    """Means of 2 voxels along each axis: ``(B, *S, C) -> (B, *S / 2, C)``, rounded up, the last of one voxel."""
    return tf.nn.avg_pool(x, 2, 2, "SAME")


def _upsampled(field: Tensor, like: Tensor) -> Tensor:
    return CropLike()([UpsampleField(2)(field), like])


def instance_loss(
    field: Tensor,
    moving: Tensor,
    fixed: Tensor,
    settings: InstanceOptimisation,
    integrate: Callable[[Tensor], Tensor] | None = None,
    anatomies: Sequence[Tensor] | None = None,
) -> Tensor:
    """The loss of each pair, the weighted sum of its terms: ``(B,)``. The arguments are those of :func:`optimise`."""
    similarity = similarity_function(settings.similarity, settings.similarity_settings)
    field, field_back = _directions(field)
    u = integrate(field) if integrate else field
    regularisers = method_class(settings.method).field_regularisers
    terms = {**_alignment(similarity, moving, fixed, u, anatomies), **regularisers(field, u)}
    if settings.both_directions:
        u_back = integrate(field_back) if integrate else field_back
        terms["inverse_consistency"] = inverse_consistency(u, u_back)
        terms["gradient_inverse_consistency"] = gradient_inverse_consistency(u, u_back)
    known = integrate or settings.both_directions
    if known and any(settings.weights.get(term) for term in ("similarity_inverse", "anatomy_inverse")):
        u_inverse = integrate(-field) if integrate else u_back
        inverse = _alignment(similarity, fixed, moving, u_inverse, anatomies and anatomies[::-1])
        terms |= {f"{name}_inverse": value for name, value in inverse.items()}
    return tf.add_n([weight * terms[name] for name, weight in settings.weights.items() if weight and name in terms])


def _directions(field: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split ``(B, *S, D)`` or ``(B, *S, 2 D)`` into the field and the field of the other direction, or None."""
    n_axes = field.shape.rank - 2
    return field[..., :n_axes], field[..., n_axes:] if field.shape[-1] > n_axes else None


def _alignment(
    similarity: Callable, moving: Tensor, fixed: Tensor, u: Tensor, anatomies: Sequence[Tensor] | None
) -> dict[str, Tensor]:
    """``similarity`` of the images and, if given, ``anatomy``: one warp of both together costs less than two."""
    if anatomies is None:
        return {"similarity": similarity(warp(moving, u), fixed)}
    warped, n = warp(tf.concat([moving, anatomies[0]], axis=-1), u), moving.shape[-1]
    return {"similarity": similarity(warped[..., :n], fixed), "anatomy": soft_dice(warped[..., n:], anatomies[1])}


def _adam(
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    index: Tensor,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam's step for a learning rate of 1, and its two moments after it; ``index`` counts from 0."""
    n = tf.cast(index + 1, gradient.dtype)
    mean = beta_1 * mean + (1 - beta_1) * gradient
    square = beta_2 * square + (1 - beta_2) * gradient * gradient
    scale = tf.sqrt(square / (1 - beta_2**n))
    return mean / (1 - beta_1**n) / (scale + epsilon), mean, square
