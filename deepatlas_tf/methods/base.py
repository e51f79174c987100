"""What every method shares: alternating turns, one update, and one name for a term from its equation to its plot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from deepatlas_tf.keras_stack import graph_function, keras, tf
from deepatlas_tf.losses.overlap import dice_and_cross_entropy
from deepatlas_tf.models.checks import check_batches, check_nets
from deepatlas_tf.types import SettingError, Tensor


class Part(NamedTuple):
    """A part of what a turn minimises.

    terms: function without arguments that gives the terms of the part for each example, ``{name: (B,)}``.
    needed: a scalar bool; where it is false, the part is known to be 0 and ``terms`` is not called.
    """

    terms: Callable[[], Mapping[str, Any]]
    needed: Any = True


class Method(keras.Model):
    """Networks trained in turns.

    A turn is the name of the network that it updates, or one of ``updates``, which says which networks it updates
    together. What is minimised is ``sum_t weight[turn][t] * term[t]``, where the terms come from the method
    ``<turn>_terms(data) -> {name: (B,)}``. A term whose weight is 0 or missing is not logged. Metrics are called
    ``<turn>/<term>``, and ``<turn>/loss`` is the weighted sum.

    Use it as any Keras model: ``method.compile(...)``, ``method.fit(batches, steps_per_epoch=...)``. A ``tf.data`` of
    batches that have another form is refused by ``fit`` with a DataError that names the entry.

    A subclass declares what it needs, as class attributes:

    - ``network_roles``: argument of ``__init__`` -> what the network is for, one of
      :data:`deepatlas_tf.models.network.ROLES`.
    - ``stream``: ``"samples"`` or ``"pairs"``, what its batches are.
    - ``stage_arguments``: which of ``turns``, ``steps``, ``similarity``, ``similarity_settings`` of the stage and
      ``n_classes`` of the data its ``__init__`` takes.
    - ``default_turns``, ``default_weights``, ``default_settings``: updates of each turn in one cycle, weight of each
      term of a turn, and the further arguments of ``__init__``, of which ``setting_choices`` has those that are one of
      some values.
    - ``label_terms``: terms that are 0 where no image is labelled. A stage with such a term is left out where there
      are no label maps.
    - ``knows_ignored``: whether its terms leave out ignored voxels, of which ``known`` of the samples tells.
    - ``updates``: turn -> names of the networks that it updates together, where the turn is not the name of one.

    Args:
        nets: Keras models by name, such as ``{"registration": ..., "segmentation": ...}``.
        turns: names of the nets, or keys of ``updates``, in the order in which they are updated, again and again. A
            net that is in no turn is frozen.
        partial_labels: False where in no batch one image is labelled more than another of its side, or for some
            classes only; a method may then take a shorter way.

    Raises:
        SettingError: if there are no turns, or a turn names no net; if a net takes another number of images than its
            role needs, or one that registers gives something else than a component for each axis.
    """

    network_roles: Mapping[str, str] = {}
    stream: str
    stage_arguments: tuple[str, ...] = ()
    default_turns: Mapping[str, int] = {}
    default_weights: Mapping[str, Mapping[str, float]] = {}
    default_settings: Mapping[str, Any] = {}
    setting_choices: Mapping[str, tuple] = {}
    label_terms: tuple[str, ...] = ()
    knows_ignored = False
    updates: Mapping[str, tuple[str, ...]] = {}
    beta_1 = 0.9  # of Adam

    def __init__(
        self, nets: Mapping[str, keras.Model], turns: Sequence[str], partial_labels: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        known = sorted(set(nets) | set(self.updates))
        unknown = sorted(set(turns) - set(known))
        if not turns or unknown:
            raise SettingError(f"turns must name the nets {known}; got {unknown or 'no turns'}")
        check_nets(type(self).__name__, nets, self.network_roles)
        self.nets = dict(nets)
        self.turns = tuple(turns)
        self.partial_labels = partial_labels
        self.built = True  # the nets are; fit under a strategy asks for it
        self.weights_by_turn: dict[str, dict[str, float]] = {}

    @classmethod
    def nets_of(cls, turn: str) -> tuple[str, ...]:
        """Names of the nets that a turn updates."""
        return cls.updates.get(turn, (turn,))

    @classmethod
    def field_regularisers(cls, field: Tensor, u: Tensor) -> dict[str, Any]:
        """The regularisers that a single field has in this method, ``{name: (B,)}``, for refining it at test time.

        Args:
            field: ``(B, *S, D)``, what a registration network predicts: the displacement field, or the velocity field
                of a diffeomorphic network.
            u: the displacement field ``(B, *S, D)`` in voxels, the same or the integral of the velocity field.
        """
        return {}

    def compile(
        self,
        optimizers: Mapping[str, keras.optimizers.Optimizer] | None = None,
        weights: Mapping[str, Mapping[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Give each turn an optimizer, and each term its weight.

        Args:
            optimizers: by turn; Adam with a learning rate of 1e-3 where missing.
            weights: ``{turn: {term: weight}}``; a turn that is left out keeps the method's ``default_weights``.

        Raises:
            SettingError: if a turn or a term is not one of the method's, or all weights of a turn that is due are 0.
        """
        super().compile(**kwargs)
        optimizers = optimizers or {}
        unknown = sorted(set(optimizers) - set(self.default_weights))
        if unknown:
            raise SettingError(
                f"there is no turn {unknown[0]!r} for an optimizer; there are {', '.join(self.default_weights)}"
            )
        each_turn = dict.fromkeys(self.turns)  # in order: workers have to make the same variables in the same order
        self.optimizers_by_net = {turn: optimizers.get(turn) or keras.optimizers.Adam(1e-3) for turn in each_turn}
        self.weights_by_turn = _complete_weights(self.default_weights, weights or {})
        empty = [turn for turn in each_turn if not self.weights_by_turn[turn]]
        if empty:
            raise SettingError(f"the turn {empty[0]} has nothing to learn: give a term of it a weight that is not 0")
        for turn, optimizer in self.optimizers_by_net.items():
            optimizer.build(self._variables(turn))
        names = [f"{turn}/{term}" for turn in sorted(set(self.turns)) for term in ("loss", *self.weights_by_turn[turn])]
        self.term_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._turn_functions = {}
        self.train_function = None

    def labelled_sides(self) -> tuple[str, ...]:
        """The sides of a pair whose label maps the terms use, as far as their weights are not 0."""
        return ("moving", "fixed")

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train as any Keras model does; see :class:`~deepatlas_tf.types.Sample` for what the batches are.

        Raises:
            DataError: if the batches of a ``tf.data`` lack an entry, or one has another type or number of axes.
        """
        if isinstance(x, tf.data.Dataset):
            check_batches(x.element_spec, self.stream, self.labelled_sides())
        return super().fit(x, *args, **kwargs)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.term_metrics.values())

    @property
    def steps(self) -> int:
        """Updates done so far, of all nets together."""
        return sum(int(optimizer.iterations.numpy()) for optimizer in self.optimizers_by_net.values())

    def turn_at(self, step: int) -> str:
        """The turn that is due at a step, counted from 0."""
        return self.turns[step % len(self.turns)]

    def update(self, turn: str, data: Any) -> None:
        """One training step: of the turn's optimizer on the weighted sum of its terms. Changes only the turn's nets."""
        variables, optimizer = self._variables(turn), self.optimizers_by_net[turn]
        means, gradients = self.means_and_gradients(turn, self.parts(turn, data))
        gradients = unscaled_gradients(gradients, optimizer)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        for name, value in means.items():
            self.term_metrics[f"{turn}/{name}"].update_state(value)

    def parts(self, turn: str, data: Any) -> Sequence[Part]:
        """What the turn minimises, as a sum of parts: by default one, ``<turn>_terms(data)``.

        A method whose terms are sums over images may give one part for each, which takes less memory.
        """
        return [Part(partial(getattr(self, f"{turn}_terms"), data))]

    def means_and_gradients(self, turn: str, parts: Sequence[Part]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Means and gradients of the terms, summed over the parts.

        A part begins when the one before it is done, so that memory holds the features of one part at a time.

        Returns:
            ``loss`` and the terms by name, each the mean over the batch; and the gradient of the loss for each variable
            of the turn, of this replica's share, scaled as the optimizer wants it.
        """
        means = {name: tf.zeros(()) for name in ("loss", *self.weights_by_turn[turn])}
        gradients = [tf.zeros_like(variable) for variable in self._variables(turn)]
        for part in parts:
            means, gradients = self._with_part(turn, part, means, gradients)
        return means, gradients

    def _with_part(
        self, turn: str, part: Part, means: dict[str, Tensor], gradients: list[Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The summed means and gradients, after adding those of ``part`` if it is needed."""

        def with_part():
            with tf.control_dependencies(gradients):
                more_means, more_gradients = self._differentiated(turn, part)
            summed = [a + b for a, b in zip(gradients, more_gradients, strict=True)]
            return {name: means[name] + more_means[name] for name in means}, summed

        return with_part() if part.needed is True else tf.cond(part.needed, with_part, lambda: (means, gradients))

    def _differentiated(self, turn: str, part: Part) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The means of the terms of one part with their weighted sum, ``loss``, and the gradient for each variable."""
        weights, variables = self.weights_by_turn[turn], self._variables(turn)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            terms = part.terms()
            means = {name: tf.reduce_mean(terms[name]) for name in weights}
            loss = tf.add_n([weight * means[name] for name, weight in weights.items()])
            share = loss / self.distribute_strategy.num_replicas_in_sync  # gradients are summed over the replicas
            scaled = scaled_loss(share, self.optimizers_by_net[turn])
        return {"loss": loss, **means}, tape.gradient(scaled, variables, unconnected_gradients="zero")

    def _variables(self, turn: str) -> list[tf.Variable]:
        return [variable for name in self.nets_of(turn) for variable in self.nets[name].trainable_variables]

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """The update of the turn that is due; for use outside of ``fit``, which compiles one function for each turn."""
        self.update(self.turn_at(self.steps), data)
        return self.get_metrics_result()

    def make_train_function(self, force: bool = False) -> Callable:
        """One compiled function for each turn, and a Python dispatcher that follows ``turns`` from the step reached.

        A ``tf.cond`` in one function would do on one device, but not under a ``MirroredStrategy``.
        """
        if force or not self._turn_functions:
            self._turn_functions = {
                turn: graph_function(partial(self._replicated_update, turn)) for turn in dict.fromkeys(self.turns)
            }
        position = iter(range(self.steps, 1 << 62))

        def train_function(iterator):
            self._turn_functions[self.turn_at(next(position))](iterator)
            return self.get_metrics_result()

        return train_function

    def _replicated_update(self, turn: str, iterator: Iterator) -> None:
        self.distribute_strategy.run(self.update, args=(turn, next(iterator)))
        self._train_counter.assign_add(1)


def supervised_terms(
    prediction: Tensor,
    reference: Tensor,
    class_weight: Tensor,
    voxel_weight: Tensor | None = None,
    known: Tensor | None = None,
) -> dict[str, Tensor]:
    """``supervised``, the soft Dice, and ``supervised_cross_entropy`` of a prediction, ``(B,)`` each.

    The arguments are those of :func:`~deepatlas_tf.losses.overlap.soft_dice`; the reference may be a label map.
    """
    dice, cross_entropy = tf.unstack(dice_and_cross_entropy(prediction, reference, class_weight, voxel_weight, known))
    return {"supervised": dice, "supervised_cross_entropy": cross_entropy}


def scaled_loss(loss: Tensor, optimizer: keras.optimizers.Optimizer) -> Tensor:
    """The loss times the factor that keeps small float16 gradients from being 0, if the optimizer has one."""
    return optimizer.get_scaled_loss(loss) if _scales_loss(optimizer) else loss


def unscaled_gradients(gradients: list[Tensor], optimizer: keras.optimizers.Optimizer) -> list[Tensor]:
    """The gradients without that factor. Those that are not finite make the optimizer leave out the step."""
    return optimizer.get_unscaled_gradients(gradients) if _scales_loss(optimizer) else gradients


def _scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _complete_weights(
    defaults: Mapping[str, Mapping[str, float]], given: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The given weights of each turn where they are not 0, checked against the terms that the method knows."""
    for turn, terms in given.items():
        unknown = sorted(set(terms) - set(defaults.get(turn, {})))
        if turn not in defaults or unknown:
            raise SettingError(f"unknown weight {turn}/{(unknown or ['*'])[0]}; there are {_names(defaults)}")
    chosen = {turn: given.get(turn, terms) for turn, terms in defaults.items()}
    return {turn: {term: weight for term, weight in terms.items() if weight} for turn, terms in chosen.items()}


def _names(weights: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{turn}/{term}" for turn, terms in weights.items() for term in terms)
