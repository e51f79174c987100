"""VoxelMorph's network under the losses of any data set's experiment (Balakrishnan et al., TMI 2019).

    deepatlas train --dataset hippocampus --manual-dir DATA --method voxelmorph

Stages: those of the experiment that only register, without labels and with them where it has both. The network is
voxelmorph's U-Net in place of the experiment's own; since it begins from no registration at all, the first stage has
more steps, at Adam's usual rate.
"""

import dataclasses

from deepatlas_tf.models.registration.voxelmorph import VoxelMorphRegistration
from deepatlas_tf.recipes import stages_of
from deepatlas_tf.training.experiment import Experiment

LONGER = 10  # times the steps of the experiment, whose network registers before it has learned anything


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages and this network.

    Raises:
        SettingError: if the experiment has no stage of ``voxelmorph``.
    """
    first, *others = stages_of(experiment, "voxelmorph")
    longer = dataclasses.replace(first, steps=LONGER * first.steps, learning_rates={})
    networks = dataclasses.replace(experiment.networks, registration=VoxelMorphRegistration())
    made = dataclasses.replace(experiment, networks=networks, stages=(longer, *others))
    return made.tiny() if tiny else made
