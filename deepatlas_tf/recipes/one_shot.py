"""One-shot DeepAtlas: a single label map teaches both networks (Xu & Niethammer, MICCAI 2019).

    deepatlas train --dataset hippocampus --manual-dir DATA --method one_shot

Stages, in the paper's order: ``registration_unsupervised``; ``semi_deepatlas``, segmentation from scratch under that
fixed network; ``deepatlas``, both in turns. The segmentation baseline is trained for comparison only.
"""

import dataclasses

from deepatlas_tf.recipes import stages_of
from deepatlas_tf.recipes.semi_deepatlas import alone
from deepatlas_tf.training.experiment import Experiment

FROM_SCRATCH = 2  # times the steps of the segmentation baseline: most warped labels are only nearly right. Not tuned


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages and one label map.

    Raises:
        SettingError: if the experiment has no stage of ``segmentation``, ``voxelmorph`` or ``deepatlas``.
    """
    baseline, registration = (stages_of(experiment, method)[0] for method in ("segmentation", "voxelmorph"))
    semi = dataclasses.replace(
        alone(experiment, "segmentation"),
        name="semi_deepatlas",
        steps=FROM_SCRATCH * baseline.steps,
        learning_rates=baseline.learning_rates,
        labelled_fraction=(1.0, None),  # a pair without the labelled image teaches nothing here
        start_from={"registration": registration.name},
    )
    joint = dataclasses.replace(
        stages_of(experiment, "deepatlas")[-1],
        name="deepatlas",
        pseudo_from={},
        start_from={"registration": registration.name, "segmentation": semi.name},
    )
    data = dataclasses.replace(experiment.data, labels=1)
    made = dataclasses.replace(experiment, data=data, stages=(baseline, registration, semi, joint))
    return made.tiny() if tiny else made
