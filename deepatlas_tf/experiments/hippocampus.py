"""DeepAtlas on the hippocampus (Medical Segmentation Decathlon, Task04) with five labelled scans.

    deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --workdir runs/hippocampus

The grid has 48 x 64 x 48 voxels of 1 mm, to which the weight of the bending energy belongs.

Measured (mean Dice, 40 test subjects, 80 test pairs, seed 0), 31 minutes of training on two CPU cores beside other
programs: segmentation .864 for the baseline, .867 for DeepAtlas; registration .754 without labels, .833 for DeepAtlas,
from Semi-DeepAtlas on. Raw results: ``benchmarks/results/hippocampus_5_deepatlas_seed0``. With a smaller segmentation
network, half the steps and a quarter in the joint stage, 22 minutes on two slow cores: .857 and .859; .754 and .828
(``benchmarks/results/hippocampus_5_deepatlas_half``). With voxelmorph's U-Net: .856 and .857; .666 without labels, .758
after Semi-DeepAtlas, .744 for DeepAtlas (``benchmarks/results/hippocampus_5_deepatlas``).
"""

import dataclasses

from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.learned_demons import LearnedDemons
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

# One scan in five labels: large changes keep the segmentation network from learning the five by heart
STRONG = Augmentation(rotation_degrees=15.0, scale=0.15, translation_voxels=4.0, elastic_voxels=2.0, gamma=0.3)
MILD = Augmentation(rotation_degrees=8.0, scale=0.08, translation_voxels=2.0, elastic_voxels=1.0, gamma=0.3, noise=0.0)
TEACHERS = {"registration": "semi_deepatlas", "segmentation": "segmentation_baseline"}
WINDOW = {"window": 7}  # of the local NCC, in voxels
SMOOTHNESS = 0.05  # of the bending energy; learned demons diverge under six times as much at a rate of 1e-3
SEGMENTATION_NET = Light((16, 32, 64, 128, 256), dropout=0.1)  # what smaller ones lose: docs/experiments.md

SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=1500,
    epochs=6,
    batch_size=2,
    labelled_fraction=(1.0, None),
    learning_rates={"segmentation": 3e-3},
    augmentation=STRONG,
)

REGISTRATION_UNSUPERVISED = Stage(
    name="registration_unsupervised",
    method="voxelmorph",
    steps=150,
    epochs=3,
    weights={"registration": {"similarity": 1.0, "smoothness": SMOOTHNESS}},
    similarity="local_ncc",
    similarity_settings=WINDOW,
    augmentation=MILD,
)

REGISTRATION_WEAK = Stage(
    name="registration_weak",
    method="voxelmorph",
    steps=200,
    epochs=4,
    labelled_fraction=(0.5, 0.5),
    learning_rates={"registration": 5e-4},
    weights={"registration": {"similarity": 1.0, "smoothness": SMOOTHNESS, "anatomy": 0.5}},
    similarity="local_ncc",
    similarity_settings=WINDOW,
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised"},
)

# The segmentation network is by far the stronger one, so it first teaches the registration network alone. With
# anatomy_from that sees what is predicted, in a step that can learn from it: learned demons by themselves gain nothing
SEMI_DEEPATLAS = Stage(
    name="semi_deepatlas",
    method="deepatlas",
    steps=800,
    epochs=4,
    turns={"registration": 1, "segmentation": 0},
    labelled_fraction=(0.3, None),
    weights={"registration": {"similarity": 1.0, "smoothness": SMOOTHNESS, "anatomy": 2.0}},
    similarity="local_ncc",
    similarity_settings=WINDOW,
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"},
    anatomy_from="segmentation_baseline",
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=1200,
    epochs=6,
    turns={"registration": 1, "segmentation": 1},
    labelled_fraction=(1.0, None),
    learning_rates={"registration": 3e-4, "segmentation": 5e-4},
    weights={
        "registration": {"similarity": 1.0, "smoothness": SMOOTHNESS, "anatomy": 2.0},
        "segmentation": {
            "anatomy": 1.0,
            "anatomy_cross_entropy": 1.0,
            "supervised": 1.0,
            "supervised_cross_entropy": 1.0,
        },
    },
    similarity="local_ncc",
    similarity_settings=WINDOW,
    augmentation=dataclasses.replace(STRONG, noise=0.0),
    start_from=TEACHERS,
    pseudo_from=TEACHERS,
    pseudo_warped=None,
    settings={"segmentation_pairs": "aligned"},
)


def get_experiment(tiny: bool = False) -> Experiment:
    """Both baselines, the weakly supervised registration, and DeepAtlas from the two pre-trained networks."""
    experiment = Experiment(
        name="hippocampus",
        data=Data("hippocampus", labels=5),
        networks=Networks(registration=LearnedDemons(window=5), segmentation=SEGMENTATION_NET),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, REGISTRATION_WEAK, SEMI_DEEPATLAS, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=2),
    )
    if not tiny:
        return experiment
    return dataclasses.replace(experiment.tiny(), data=Data("hippocampus", (24, 32, 24), (2.0, 2.0, 2.0), labels=5))
