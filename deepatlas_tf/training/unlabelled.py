"""What can be done where there is no label map: the stages that are trained, and the subjects that are measured."""

import dataclasses
from collections.abc import Iterable

from deepatlas_tf.messages import say
from deepatlas_tf.methods import method_class
from deepatlas_tf.streams.subjects import in_domain
from deepatlas_tf.training.experiment import Experiment, Stage
from deepatlas_tf.types import DataError


def needs_labels(stage: Stage) -> bool:
    """Whether nothing could be drawn, or nothing learned by a supervised term, without label maps."""
    label_terms = method_class(stage.method).label_terms
    weights = [stage.weights[turn] for turn, n in stage.turns.items() if n]
    supervised = any(terms.get(term) for terms in weights for term in label_terms)
    return supervised or any(stage.labelled_fraction) or bool(stage.pseudo_from)


def without_labels(experiment: Experiment) -> tuple[Experiment, tuple[str, ...]]:
    """The experiment without the stages that need labels or start from one that does, and the names of these.

    Raises:
        DataError: if no stage is left.
    """
    left_out: list[str] = []
    for stage in experiment.stages:
        if needs_labels(stage) or set(stage.sources) & set(left_out):
            left_out.append(stage.name)
    kept = tuple(stage for stage in experiment.stages if stage.name not in left_out)
    if not kept:
        raise DataError(
            f"no training subject has a label map that is used, and {', '.join(left_out)} cannot be trained without: "
            "give some, raise --labels, or take --method voxelmorph"
        )
    return dataclasses.replace(experiment, stages=kept), tuple(left_out)


def first_labelled(dataset, split: str, domains: Iterable[str | None], n: int) -> tuple[str, ...]:
    """The first ``n`` subjects of a split with a label map, as many of each of the domains (None: of all)."""
    domains = tuple(dict.fromkeys(domains))
    each = -(-n // max(1, len(domains)))
    found = (in_domain(dataset.labelled[split], dataset.domains, domain)[:each] for domain in domains)
    return tuple(dict.fromkeys(subject for subjects in found for subject in subjects))


def registered_subjects(dataset, split: str, domain: str | None) -> tuple[str, ...]:
    """The subjects of a domain on which registration is measured: those with a label map.

    Where there are none, all: the folds of a field can be counted without labels.
    """
    labelled = in_domain(dataset.labelled[split], dataset.domains, domain)
    return labelled or in_domain(dataset.subjects[split], dataset.domains, domain)


def say_unlabelled(dataset, split: str, domains: Iterable[str | None]) -> None:
    """Say in one line which of the domains have no label map in the split."""
    missing = [d for d in dict.fromkeys(domains) if not in_domain(dataset.labelled[split], dataset.domains, d)]
    if missing:
        names = " or ".join(repr(domain) for domain in missing if domain is not None)
        of = f" of the domain {names}" if names else ""
        say(f"no {split} subject{of} has a label map: what needs one is not measured")
