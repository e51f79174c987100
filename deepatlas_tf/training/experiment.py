"""An experiment as data: frozen settings that say what is trained on what; ``--set a.b=v`` reaches each of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from deepatlas_tf.losses.similarity import similarity_function
from deepatlas_tf.methods import method_class
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.streams.patches import Patches
from deepatlas_tf.types import SettingError


@dataclasses.dataclass(frozen=True)
class Data:
    """Which data are used, on which grid, and how many of their labels.

    dataset: name of a folder of ``datasets/``, with ``/VARIANT`` where there are several variants.
    shape, spacing: the network's grid in voxels and its voxel size in mm; None takes the data set's default.
    max_voxels: of a grid that is chosen for scans of one's own; None for a million, in 2D a quarter of it.
    n_subjects: how many subjects a synthetic data set draws; None takes its default.
    labels: how many training subjects keep their label map; None for all.
    fold, folds: which subjects are tested, of how many parts of them; 0, 0 is the data set's splits, see
        :mod:`deepatlas_tf.datasets.folds`.
    alignment: ``none``, or how scans are aligned to a reference before the networks see them, see
        :mod:`deepatlas_tf.datasets.alignment`.
    domains: for a method between two domains, their names (A, B); then only labels of A are used.
    full_resolution: whether a last stage segments the scans at their own resolution, see
        :mod:`deepatlas_tf.training.full_resolution`.
    memory_gib: how much memory (GiB) the scans may take from which samples and pairs are drawn.
    """

    dataset: str
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    n_subjects: int | None = None
    labels: int | None = None
    fold: int = 0
    folds: int = 0
    alignment: str = "none"
    domains: tuple[str, ...] = ()
    full_resolution: bool = False
    memory_gib: float = 2.0
    max_voxels: int | None = None

    def __post_init__(self) -> None:
        for name in ("shape", "spacing"):
            if not isinstance(getattr(self, name), tuple | None):
                raise SettingError(f"data.{name} takes one value for each axis, such as (64, 64, 48), or None")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of some networks by one method.

    name: names the folder of the stage in WORKDIR and its row in the tables.
    method: the name of a file of ``methods/``.
    steps: how many updates there are, of all networks together.
    epochs: the steps are cut into so many parts of equal length; after each there is validation and a checkpoint.
    patience: the stage ends after so many epochs that were better in no task; 0 for never.
    turns: for a method with several networks, how often each is updated in one cycle; one with 0 is frozen.
    batch_size: samples or pairs in a batch.
    labelled_fraction: how often the (moving, fixed) side of a pair is drawn from the labelled subjects; None draws from
        all alike. For single samples the first number counts.
    domains: from which domain the (moving, fixed) side is drawn; None draws from all. For single samples the first.
    learning_rates: of Adam at the start, by turn; they fall by a cosine to ``final_learning_rate`` times that.
    weights: the weight of each term of the loss, ``{turn: {term: weight}}``.
    similarity, similarity_settings: a key of ``SIMILARITIES`` of ``losses/similarity.py``, and its arguments.
    augmentation: how samples are changed at random; None leaves them as they are.
    start_from: for each network that is trained further and not made new, the earlier stage that it is of.
    anatomy_from: the earlier stage whose segmentation network becomes a part of this one's registration network, see
        :mod:`deepatlas_tf.models.anatomy`; None: it keeps what it starts from, or sees the images alone.
    settings: the method's own settings, which its docstring explains.
    pseudo_from: the earlier stages whose ``registration`` and ``segmentation`` networks make a soft pseudo mask of each
        unlabelled image, from which this stage learns. pseudo_gate: the least probability of a voxel that is used.
    pseudo_warped: the part that warped label maps have in a mask, predictions the rest; None: the best in validation.
    pseudo_instance_steps: of instance optimisation, for each registration of a label map.
    patches: the stage sees patches of the scans at their own resolution; None: whole scans on the grid of the run.
    """

    name: str
    method: str
    steps: int
    epochs: int = 10
    patience: int = 0
    turns: Mapping[str, int] = dataclasses.field(default_factory=dict)
    batch_size: int = 1
    labelled_fraction: tuple[float | None, float | None] = (None, None)
    domains: tuple[str | None, str | None] = (None, None)
    learning_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    final_learning_rate: float = 0.02
    weights: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    similarity: str = "ncc"
    similarity_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    augmentation: Augmentation | None = None
    start_from: Mapping[str, str] = dataclasses.field(default_factory=dict)
    anatomy_from: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pseudo_from: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pseudo_gate: float = 0.0
    pseudo_warped: float | None = 0.5
    pseudo_instance_steps: int = 0
    patches: Patches | None = None

    def __post_init__(self) -> None:
        """Write out what was left to the method's defaults, so that every setting can be seen and set."""
        try:
            cls = method_class(self.method)
        except ValueError as error:
            raise SettingError(f"stage {self.name}: {error}") from None
        weights = {
            turn: {term: float(self.weights.get(turn, terms).get(term, 0.0)) for term in terms}
            for turn, terms in cls.default_weights.items()
        }
        unknown = [f"{turn}.{t}" for turn in self.weights for t in self.weights[turn] if t not in weights.get(turn, {})]
        if unknown:
            raise SettingError(f"stage {self.name}: {self.method} has no term {unknown[0]}")
        unknown = [name for name in self.settings if name not in cls.default_settings]
        if unknown:
            raise SettingError(f"stage {self.name}: {self.method} has no setting {unknown[0]}")
        turns = {turn: (self.turns or cls.default_turns).get(turn, 0) for turn in weights}
        rates = {turn: self.learning_rates.get(turn, 1e-3) for turn in weights}
        settings = {**cls.default_settings, **self.settings}
        for name, value in (("weights", weights), ("turns", turns), ("learning_rates", rates), ("settings", settings)):
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        stage = f"stage {self.name}"
        try:
            similarity_function(self.similarity, self.similarity_settings)
        except ValueError as error:
            raise SettingError(f"{stage}: {error}") from None
        for name, choices in method_class(self.method).setting_choices.items():
            if self.settings[name] not in choices:
                raise SettingError(f"{stage}: {name} is {' or '.join(map(repr, choices))}, not {self.settings[name]!r}")
        if min(self.steps, self.epochs, self.batch_size) < 1 or sum(self.turns.values()) < 1:
            raise SettingError(f"{stage}: steps, epochs, batch_size and the sum of turns must be at least 1")
        if self.patience < 0:
            raise SettingError(f"{stage}: patience is a number of epochs, 0 for never")
        if not 0 <= (self.pseudo_warped or 0) <= 1:
            raise SettingError(f"{stage}: pseudo_warped is between 0 and 1, or None")
        if self.pseudo_from and set(self.pseudo_from) != {"registration", "segmentation"}:
            raise SettingError(f"{stage}: pseudo_from takes a stage for each of registration and segmentation")
        if self.anatomy_from is not None and "registration" not in method_class(self.method).network_roles:
            raise SettingError(f"{stage}: {self.method} has no registration network that anatomy_from could guide")
        if self.patches is not None and method_class(self.method).stream != "samples":
            raise SettingError(f"{stage}: {self.method} draws pairs, and patches are of single scans")
        if len(self.domains) != 2 or (self.domains[0] is None) != (self.domains[1] is None):
            raise SettingError(f"{stage}: domains are two names (moving, fixed), or (None, None)")

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the earlier stages whose networks this one starts from or learns from."""
        anatomy = () if self.anatomy_from is None else (self.anatomy_from,)
        return (*self.start_from.values(), *self.pseudo_from.values(), *anatomy)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.steps // self.epochs)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How much is measured, while training and afterwards.

    pairs_per_subject: in the evaluation each subject is the fixed one of so many pairs, at most one with each other.
    validation_subjects: while training, at most so many subjects are measured after each epoch.
    """

    pairs_per_subject: int = 1
    validation_subjects: int = 20


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on, besides the scans themselves and the code.

    The ``stages`` are trained one after the other; ``seed`` decides the first weights, the order of the scans and, if
    it is not 0, which subjects keep their labels.
    """

    name: str
    data: Data
    stages: tuple[Stage, ...]
    networks: Networks = Networks()
    evaluation: Evaluation = Evaluation()
    seed: int = 0

    def __post_init__(self):
        names = [stage.name for stage in self.stages]
        for position, stage in enumerate(self.stages):
            missing = [source for source in stage.sources if source not in names[:position]]
            if missing:
                raise SettingError(f"stage {stage.name} starts from {missing[0]}, which is no earlier stage of {names}")

    def only_method(self, method: str) -> "Experiment":
        """The stages of one method, with those that they start from; for the last method all stages, as its baselines.

        Raises:
            SettingError: if no stage uses the method.
        """
        methods = sorted({stage.method for stage in self.stages})
        if method not in methods:
            raise SettingError(f"experiment {self.name} has no method {method!r}; there are {', '.join(methods)}")
        if method == self.stages[-1].method:
            return self
        needed = {stage.name for stage in self.stages if stage.method == method}
        for stage in reversed(self.stages):
            needed |= set(stage.sources) if stage.name in needed else set()
        return dataclasses.replace(self, stages=tuple(s for s in self.stages if s.name in needed))

    def tiny(self) -> "Experiment":
        """A copy with narrow networks and eight steps in each stage, to see quickly that everything works."""
        stages = tuple(dataclasses.replace(stage, steps=8, epochs=2, pseudo_instance_steps=0) for stage in self.stages)
        return dataclasses.replace(self, stages=stages, networks=self.networks.tiny())

    def scaled(self, factor: float) -> "Experiment":
        """A copy with ``factor`` times the steps in every stage, at least one an epoch."""
        stages = (dataclasses.replace(s, steps=max(s.epochs, round(s.steps * factor))) for s in self.stages)
        return dataclasses.replace(self, stages=tuple(stages))
