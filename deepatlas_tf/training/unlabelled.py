"""What can be done with few scans or label maps: the stages that are trained, and the subjects that are measured."""

import dataclasses
from collections.abc import Callable, Iterable

from deepatlas_tf.datasets import splits
from deepatlas_tf.datasets.alignment import NONE
from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.messages import say
from deepatlas_tf.methods import method_class
from deepatlas_tf.streams.subjects import in_domain
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.types import DataError


def needs_labels(stage: Stage) -> bool:
    """Whether a stage cannot be trained without label maps.

    It cannot where it has a supervised term, draws from the labelled subjects, or learns from pseudo masks.
    """
    label_terms = method_class(stage.method).label_terms
    weights = [stage.weights[turn] for turn, n in stage.turns.items() if n]
    supervised = any(terms.get(term) for terms in weights for term in label_terms)
    return supervised or any(stage.labelled_fraction) or bool(stage.pseudo_from)


def without_labels(experiment: Experiment) -> tuple[Experiment, tuple[str, ...]]:
    """The experiment without the stages that need labels or start from one that does, and the names of these.

    Raises:
        DataError: if no stage is left.
    """
    kept, left_out = _without(experiment, needs_labels)
    if not kept:
        raise DataError(
            f"no training subject has a label map that is used, and {', '.join(left_out)} cannot be trained without: "
            "give some, raise --labels, or take --method voxelmorph"
        )
    return dataclasses.replace(experiment, stages=kept), left_out


def without_pairs(experiment: Experiment) -> tuple[Experiment, tuple[str, ...]]:
    """The experiment without the stages that draw pairs or start from one that does, and the names of these.

    Raises:
        DataError: if no stage is left.
    """
    kept, left_out = _without(experiment, lambda stage: method_class(stage.method).stream == "pairs")
    if not kept:
        raise DataError(
            f"there is one training subject, and {', '.join(left_out)} cannot be trained without a pair: add scans, "
            "which need no label map"
        )
    return dataclasses.replace(experiment, stages=kept), left_out


def _without(experiment: Experiment, cannot: Callable[[Stage], bool]) -> tuple[tuple[Stage, ...], tuple[str, ...]]:
    """Split the stages of an experiment: those that can be trained, and the names of those that cannot.

    A stage that starts from one that cannot be trained cannot be either; one of patches learns from labels alone then.
    """
    kept: list[Stage] = []
    left_out: list[str] = []
    for stage in experiment.stages:
        if stage.patches is not None and set(stage.pseudo_from.values()) & set(left_out):
            stage = dataclasses.replace(stage, pseudo_from={}, labelled_fraction=(1.0, None))
        if cannot(stage) or set(stage.sources) & set(left_out):
            left_out.append(stage.name)
        else:
            kept.append(stage)
    return tuple(kept), tuple(left_out)


def first_labelled(dataset: DataSet, split: str, domains: Iterable[str | None], n: int) -> tuple[str, ...]:
    """The first ``n`` subjects of a split that have a label map, equally many of each domain.

    ``domains`` holds names, or None for all subjects.
    """
    domains = tuple(dict.fromkeys(domains))
    each = -(-n // max(1, len(domains)))
    found = (in_domain(dataset.labelled[split], dataset.domains, domain)[:each] for domain in domains)
    return tuple(dict.fromkeys(subject for subjects in found for subject in subjects))


def registered_subjects(dataset: DataSet, split: str, domain: str | None) -> tuple[str, ...]:
    """The subjects of a split on which registration is measured, of one domain or, for None, of all.

    These are the subjects with a label map. Where none has one, these are all subjects, since the folds of a field can
    be counted without labels.
    """
    labelled = in_domain(dataset.labelled[split], dataset.domains, domain)
    return labelled or in_domain(dataset.subjects[split], dataset.domains, domain)


def say_not_measured(dataset: DataSet, domains: Iterable[str | None], in_fold: bool = False) -> None:
    """Say in one line what the splits leave unmeasured, or which domains have no label map to choose epochs by.

    ``in_fold`` says that this is a fold of a cross-validation, where no other one is to be recommended.
    """
    named = [domain for domain in domains if domain is not None]
    if named:
        say_unlabelled(dataset, "validation", named)
        return
    text = splits.not_measured(dataset.subjects, dataset.labelled)
    if text:
        say(f"{text}{folds_hint(dataset, in_fold)}")


def folds_hint(dataset: DataSet, in_fold: bool) -> str:
    """What recommends a cross-validation, where one can be made of these scans and this is none."""
    return "" if in_fold or dataset.alignment != NONE else splits.folds_hint(dataset.subjects, dataset.labelled)


def say_unlabelled(dataset: DataSet, split: str, domains: Iterable[str | None]) -> None:
    """Tell the user in one line in which of the domains no subject of the split has a label map."""
    missing = [d for d in dict.fromkeys(domains) if not in_domain(dataset.labelled[split], dataset.domains, d)]
    if missing:
        names = " or ".join(repr(domain) for domain in missing if domain is not None)
        of = f" of the domain {names}" if names else ""
        say(f"no {split} subject{of} has a label map: what needs one is not measured")
