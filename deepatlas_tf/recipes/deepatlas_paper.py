"""DeepAtlas as published, for any data set (Xu & Niethammer, MICCAI 2019).

    deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --method deepatlas_paper

Stages: ``segmentation_baseline``, ``registration_paper``, and ``deepatlas_paper`` from both, 20 updates of the
registration for each of the segmentation, with the losses of the paper: global NCC, bending energy and Dice. The
registration network is voxelmorph's U-Net; the data set's experiment has others, see its file. Not tuned.
"""

import dataclasses

from deepatlas_tf.recipes import stages_of, voxelmorph
from deepatlas_tf.training.experiment import Experiment, Stage

TURNS = {"registration": 20, "segmentation": 1}


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages and this network; the joint stage has the steps of all that it stands for.

    Raises:
        SettingError: if the experiment has no stage of ``segmentation``, ``voxelmorph`` or ``deepatlas``.
    """
    baseline, joint = stages_of(experiment, "segmentation")[0], stages_of(experiment, "deepatlas")
    published = voxelmorph.recipe(experiment)
    registration = dataclasses.replace(
        published.stages[0], name="registration_paper", similarity="ncc", similarity_settings={}, weights={}
    )
    together = Stage(
        name="deepatlas_paper",
        method="deepatlas",
        steps=sum(stage.steps for stage in joint),
        epochs=joint[-1].epochs,
        turns=TURNS,
        labelled_fraction=joint[-1].labelled_fraction,
        learning_rates=joint[-1].learning_rates,
        augmentation=joint[-1].augmentation,
        start_from={"registration": registration.name, "segmentation": baseline.name},
    )
    made = dataclasses.replace(published, stages=(baseline, registration, together))
    return made.tiny() if tiny else made
