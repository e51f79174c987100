"""One-shot DeepAtlas on T1 brains (OASIS-1 with Neuromorphometrics labels): a single labelled scan, twelve structures.

    deepatlas train --dataset brains --manual-dir DATA --labels 1 --workdir runs/brains

Both networks alone, then both in turns, from masks in which the one label map, warped onto each scan and refined for
it, and the predictions are put together. The grid has 48 x 64 x 48 voxels of 3.3 mm, to which the weight of the bending
energy belongs.

Time: 15 minutes of training on two CPU cores with AVX-512, beside other programs.
Measured (mean Dice, 5 test subjects, 20 test pairs, seed 0): segmentation .807 for the baseline, .827 for DeepAtlas,
.837 with the label map as an atlas, .839 with eight scans without one as templates, too; registration .761
without labels, .762 for DeepAtlas, .786 refined by the anatomy that these vote for. Raw results:
``benchmarks/results/brains_1_deepatlas_fold0``. All 20 subjects, in four folds: table B of ``docs/evidence.md``. With
voxelmorph's U-Net and the paper's pairs: .807 and .776, .646 and .648 (``benchmarks/results/brains_1_deepatlas``).
"""

import dataclasses

from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.learned_demons import LearnedDemons
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

STRONG = Augmentation(rotation_degrees=10.0, scale=0.1, translation_voxels=2.0, elastic_voxels=1.5, gamma=0.3)
MILD = Augmentation(rotation_degrees=4.0, scale=0.05, translation_voxels=1.0, elastic_voxels=0.0, gamma=0.2, noise=0.0)
BASELINES = {"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"}
WINDOW = {"window": 7}  # of the local NCC, in voxels
ALL_TERMS = {"anatomy": 1.0, "anatomy_cross_entropy": 1.0, "supervised": 1.0, "supervised_cross_entropy": 1.0}

SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=1500,
    epochs=5,
    labelled_fraction=(1.0, None),
    learning_rates={"segmentation": 3e-3},
    augmentation=STRONG,
)

REGISTRATION_UNSUPERVISED = Stage(
    name="registration_unsupervised",
    method="voxelmorph",
    steps=150,
    epochs=3,
    weights={"registration": {"similarity": 1.0, "smoothness": 0.05}},
    augmentation=MILD,
    similarity="local_ncc",
    similarity_settings=WINDOW,
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=900,
    epochs=3,
    turns={"registration": 1, "segmentation": 2},
    labelled_fraction=(1.0, None),
    learning_rates={"registration": 3e-4, "segmentation": 1e-3},
    weights={
        "registration": {"similarity": 1.0, "smoothness": 0.05, "anatomy": 0.5},
        "segmentation": ALL_TERMS,
    },
    settings={"segmentation_pairs": "aligned"},
    augmentation=dataclasses.replace(STRONG, noise=0.0),
    start_from=BASELINES,
    pseudo_from=BASELINES,
    pseudo_warped=None,
    pseudo_instance_steps=60,
    similarity="local_ncc",
    similarity_settings=WINDOW,
)


def get_experiment(tiny: bool = False) -> Experiment:
    """The two baselines and DeepAtlas. With one label there are no labelled pairs to register."""
    experiment = Experiment(
        name="brains",
        data=Data("brains", labels=1),
        networks=Networks(registration=LearnedDemons(), segmentation=Light((12, 24, 48, 96))),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=4),
    )
    if not tiny:
        return experiment
    return dataclasses.replace(experiment.tiny(), data=Data("brains", (24, 32, 24), (6.6, 6.6, 6.6), labels=1))
