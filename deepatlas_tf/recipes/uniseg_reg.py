"""UniSegReg for any data set: pre-training, then rounds, beside the baseline and Mean Teacher.

    deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --method uniseg_reg

Stages: ``segmentation_baseline`` and ``registration_pretrained`` are the pre-training; ``mean_teacher`` is the
baseline with the same network and data; ``uniseg_reg_1``, ..., ``uniseg_reg`` are the ten rounds, each of which first
makes pseudo masks with the networks of the one before. Networks as published: a segmentation U-Net of five levels with
16 channels at the first, with dropout, and a residual pyramid for registration.
"""

import dataclasses

from deepatlas_tf.models.registration.pyramid import Pyramid
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.recipes import n_axes, voxelmorph
from deepatlas_tf.recipes.mean_teacher import SUPERVISED, with_baseline
from deepatlas_tf.training.experiment import Experiment, Stage

ROUNDS, ROUNDS_TINY = 10, 2
DROPOUT = 0.1
PRETRAINING = 3  # times the steps of VoxelMorph: the masks are no better than the warped labels
VOLUME_RATE = 3e-4  # of the registration turns: the pyramid has no normalisation, and in 3D it diverges at 1e-3


def recipe(experiment: Experiment, tiny: bool = False) -> Experiment:
    """The experiment with these stages and networks; two rounds if tiny.

    A round takes a third of the steps of the experiment's two baselines. Every second moving image is a labelled one:
    drawn alike, as the authors do, a single label is hardly seen, and the masks drift away from it. In volumes
    registration learns at ``VOLUME_RATE``.

    Raises:
        SettingError: if the experiment has no stage of ``segmentation`` or of ``voxelmorph``.
    """
    networks = dataclasses.replace(
        experiment.networks,
        segmentation=Light((16, 32, 64, 128, 256), dropout=DROPOUT),
        registration=Pyramid(),
    )
    baseline, teacher = with_baseline(experiment)
    pretrained = _registration(voxelmorph.recipe(experiment).stages[0])
    rounds = _rounds(baseline, pretrained, ROUNDS_TINY if tiny else ROUNDS)
    stages = (baseline, pretrained, teacher, *rounds)
    if n_axes(experiment.data) == 3:
        stages = tuple(map(_slower, stages))
    made = dataclasses.replace(experiment, networks=networks, stages=stages)
    return made.tiny() if tiny else made


def _slower(stage: Stage) -> Stage:
    if "registration" not in stage.learning_rates:
        return stage
    return dataclasses.replace(stage, learning_rates={**stage.learning_rates, "registration": VOLUME_RATE})


def _registration(unsupervised: Stage) -> Stage:
    """Registration alone; the labels of pairs that have them count."""
    return dataclasses.replace(
        unsupervised,
        name="registration_pretrained",
        method="uniseg_reg",
        turns={"registration": 1, "segmentation": 0},
        weights={},
        similarity="ncc",
        similarity_settings={},
        steps=PRETRAINING * unsupervised.steps,
    )


def _rounds(baseline: Stage, pretrained: Stage, n: int) -> tuple[Stage, ...]:
    stages = []
    before = {"segmentation": baseline.name, "registration": pretrained.name}
    for index in range(1, n + 1):
        name = "uniseg_reg" if index == n else f"uniseg_reg_{index}"
        stage = dataclasses.replace(
            baseline,
            name=name,
            method="uniseg_reg",
            steps=(baseline.steps + pretrained.steps // PRETRAINING) // 3,
            epochs=2,
            batch_size=1,
            turns={"registration": 1, "segmentation": 1},
            labelled_fraction=(0.5, None),
            learning_rates={"registration": 5e-4, "segmentation": 5e-4},
            weights={"segmentation": SUPERVISED},
            start_from=before,
            pseudo_from=before,
        )
        stages.append(stage)
        before = {"segmentation": name, "registration": name}
    return tuple(stages)
