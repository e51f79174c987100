"""Semi-DeepAtlas: each network of DeepAtlas learns under the other, which is fixed (Xu & Niethammer, MICCAI 2019).

    deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --method semi_deepatlas

Stages: the two baselines, ``semi_deepatlas_segmentation`` under the fixed registration and
``semi_deepatlas_registration`` under the fixed segmentation. Each continues from both baselines.
"""

import dataclasses

from deepatlas_tf.recipes import stages_of
from deepatlas_tf.training.experiment import Experiment, Stage


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages.

    Raises:
        SettingError: if the experiment has no stage of ``segmentation``, ``voxelmorph`` or ``deepatlas``.
    """
    segmentation, registration = (stages_of(experiment, method)[0] for method in ("segmentation", "voxelmorph"))
    baselines = {"registration": registration.name, "segmentation": segmentation.name}
    semi = (
        dataclasses.replace(alone(experiment, net), name=f"semi_deepatlas_{net}", start_from=baselines)
        for net in ("segmentation", "registration")
    )
    made = dataclasses.replace(experiment, stages=(segmentation, registration, *semi))
    return made.tiny() if tiny else made


def alone(experiment: Experiment, net: str) -> Stage:
    """A stage in which DeepAtlas trains one net: the experiment's own, else its joint stage without the other turns.

    It has no pseudo masks, so that its teacher is the other network.
    """
    stages = stages_of(experiment, "deepatlas")
    turns = {name: int(name == net) for name in stages[-1].turns}
    own = [stage for stage in stages if stage.turns == turns]
    return dataclasses.replace((own or stages)[-1], turns=turns, pseudo_from={})
