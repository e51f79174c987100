"""DeepAtlas on the hippocampus (Medical Segmentation Decathlon, Task04) with five labelled scans.

    deepatlas train --dataset hippocampus --manual-dir DATA --labels 5 --workdir runs/hippocampus

The grid has 48 x 64 x 48 voxels of 1 mm, to which the weight of the bending energy belongs.

Time: 97 minutes of training on two CPU cores, beside other jobs and with pauses.
Measured (mean Dice, 40 test subjects, 80 test pairs, seed 0): segmentation .856 for the baseline, .857 for DeepAtlas;
registration .666 without labels, .758 after Semi-DeepAtlas, .744 for DeepAtlas. Raw results:
``benchmarks/results/hippocampus_5_deepatlas``. With one label, the command is in ``benchmarks/results/README.md``:
.790 and .818; .666, .713 and .697 (``benchmarks/results/hippocampus_1_deepatlas``).
"""

from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

# One scan in five labels: large changes keep the segmentation network from learning the five by heart
STRONG = Augmentation(rotation_degrees=15.0, scale=0.15, translation_voxels=4.0, elastic_voxels=2.0, gamma=0.3)
MILD = Augmentation(rotation_degrees=8.0, scale=0.08, translation_voxels=2.0, elastic_voxels=1.0, gamma=0.3)

SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=3000,
    epochs=6,
    batch_size=2,
    labelled_fraction=(1.0, None),
    augmentation=STRONG,
)

REGISTRATION_UNSUPERVISED = Stage(
    name="registration_unsupervised",
    method="voxelmorph",
    steps=1500,
    epochs=5,
    augmentation=MILD,
)

REGISTRATION_WEAK = Stage(
    name="registration_weak",
    method="voxelmorph",
    steps=600,
    epochs=4,
    labelled_fraction=(0.5, 0.5),
    learning_rates={"registration": 5e-4},
    weights={"registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 1.0}},
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised"},
)

# The segmentation network is by far the stronger one: it first teaches the registration network alone
SEMI_DEEPATLAS = Stage(
    name="semi_deepatlas",
    method="deepatlas",
    steps=1500,
    epochs=5,
    turns={"registration": 1, "segmentation": 0},
    labelled_fraction=(0.3, None),
    weights={"registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 2.0}},
    augmentation=MILD,
    start_from={"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"},
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=1200,
    epochs=6,
    turns={"registration": 1, "segmentation": 1},
    labelled_fraction=(0.9, 0.3),
    learning_rates={"registration": 2e-4, "segmentation": 3e-4},
    weights={
        "registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 2.0},
        "segmentation": {"anatomy": 0.1, "supervised": 1.0, "supervised_cross_entropy": 1.0},
    },
    augmentation=STRONG,
    start_from={"registration": "semi_deepatlas", "segmentation": "segmentation_baseline"},
)


def get_experiment(tiny: bool = False) -> Experiment:
    """Both baselines, the weakly supervised registration, and DeepAtlas from the two pre-trained networks."""
    experiment = Experiment(
        name="hippocampus",
        data=Data("hippocampus", labels=5),
        networks=Networks(segmentation=Light((12, 24, 48, 96))),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, REGISTRATION_WEAK, SEMI_DEEPATLAS, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=2),
    )
    return experiment.tiny() if tiny else experiment
