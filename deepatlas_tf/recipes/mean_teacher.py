"""Mean Teacher beside its baseline, with the networks and the augmentation of the data set's experiment.

deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --method mean_teacher
"""

import dataclasses

from deepatlas_tf.recipes import stages_of
from deepatlas_tf.training.experiment import Experiment, Stage

# 0.5 soft Dice + 0.5 cross-entropy
SUPERVISED = {"supervised": 0.5, "supervised_cross_entropy": 0.5}


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The first segmentation stage of the experiment, and a Mean Teacher that begins anew and takes twice the steps.

    Every batch has labelled and unlabelled samples, half of each, so the student sees as many labelled ones as the
    baseline.

    Raises:
        SettingError: if the experiment has no stage of the method ``segmentation``.
    """
    made = dataclasses.replace(experiment, stages=with_baseline(experiment))
    return made.tiny() if tiny else made


def with_baseline(experiment: Experiment) -> tuple[Stage, Stage]:
    """The baseline and the Mean Teacher, with the same supervised terms."""
    baseline = stages_of(experiment, "segmentation")[0]
    baseline = dataclasses.replace(baseline, weights={"segmentation": SUPERVISED})
    teacher = dataclasses.replace(
        baseline,
        name="mean_teacher",
        method="mean_teacher",
        steps=2 * baseline.steps,
        epochs=2 * baseline.epochs,
        labelled_fraction=(0.5, None),
        weights={"segmentation": {**SUPERVISED, "consistency": 1.0}},
    )
    return baseline, teacher
