"""One-shot DeepAtlas on T1 brains (OASIS-1 with Neuromorphometrics labels): a single labelled scan, twelve structures.

    deepatlas train --dataset brains --manual-dir DATA --labels 1 --workdir runs/brains

The stages are the one-shot recipe of the paper: unsupervised registration, then segmentation under that fixed network
(Semi-DeepAtlas), then both in turns; but segmentation starts from its baseline, not from scratch. The grid has
48 x 64 x 48 voxels of 3.3 mm, to which the weight of the bending energy belongs.

Time: 49 minutes of training on two CPU cores, beside other jobs.
Measured (mean Dice, 5 test subjects, 20 test pairs, seed 0): segmentation .807 for the baseline, .776 for DeepAtlas;
registration .646 without labels, .648 for DeepAtlas. Raw results: ``benchmarks/results/brains_1_deepatlas``. With
``segmentation_pairs=aligned`` segmentation has .806: ``benchmarks/results/brains_1_deepatlas_aligned``.
"""

from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

STRONG = Augmentation(rotation_degrees=10.0, scale=0.1, translation_voxels=2.0, elastic_voxels=1.5, gamma=0.3)
MILD = Augmentation(rotation_degrees=4.0, scale=0.05, translation_voxels=1.0, elastic_voxels=0.0, gamma=0.2)
ALL_TERMS = {"anatomy": 1.0, "anatomy_cross_entropy": 1.0, "supervised": 1.0, "supervised_cross_entropy": 1.0}

SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=3000,
    epochs=5,
    labelled_fraction=(1.0, None),
    augmentation=STRONG,
)

REGISTRATION_UNSUPERVISED = Stage(
    name="registration_unsupervised",
    method="voxelmorph",
    steps=1500,
    epochs=5,
    weights={"registration": {"similarity": 1.0, "smoothness": 0.5}},
    augmentation=MILD,
)

# From the baseline, not from scratch as in the paper: from scratch it needs several times the steps
SEMI_DEEPATLAS = Stage(
    name="semi_deepatlas",
    method="deepatlas",
    steps=400,
    epochs=4,
    turns={"registration": 0, "segmentation": 1},
    labelled_fraction=(1.0, None),
    learning_rates={"segmentation": 5e-4},
    weights={"segmentation": ALL_TERMS},
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"},
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=400,
    epochs=4,
    turns={"registration": 2, "segmentation": 1},
    labelled_fraction=(0.7, None),
    learning_rates={"registration": 3e-4, "segmentation": 3e-4},
    weights={
        "registration": {"similarity": 1.0, "smoothness": 0.5, "anatomy": 0.5},
        "segmentation": ALL_TERMS,
    },
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised", "segmentation": "semi_deepatlas"},
)


def get_experiment(tiny: bool = False) -> Experiment:
    """The two baselines, Semi-DeepAtlas and DeepAtlas. With one label there are no labelled pairs to register."""
    experiment = Experiment(
        name="brains",
        data=Data("brains", labels=1),
        networks=Networks(segmentation=Light((12, 24, 48, 96))),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, SEMI_DEEPATLAS, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=4),
    )
    return experiment.tiny() if tiny else experiment
