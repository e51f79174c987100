"""DeepAtlas on the synthetic knee phantom: the first run, without a download, in a few minutes on two CPU cores.

    deepatlas train

The images are synthetic: results say that the method works, not how well it works on knees. The grid has 40 x 48 x 40
voxels of 3 mm, to which the weight of the bending energy belongs.

Time: 8 minutes of training on two CPU cores, beside other programs that took more than half of them.
Measured (mean Dice, 8 test subjects, 16 test pairs, 3 labels, seed 0): segmentation .918 for the baseline, .922 for
DeepAtlas; registration .859 without labels, .869 for DeepAtlas. Raw results:
``benchmarks/results/phantom-knee_3_deepatlas_seed0``.

Two domains, of which only the first has labels:

    deepatlas train --dataset phantom_knee/t1_t2 --method seg_guided
    deepatlas train --dataset phantom_knee/xray_dxa --method seg_guided

Measured with other steps and weights (the commands are in ``benchmarks/results/README.md``), Dice of the pairs between
the domains, registered by predicted label maps: .720 after 61 minutes
(``benchmarks/results/phantom-knee-t1-t2_3_seg-guided_no-identity``), .876 after 8 minutes
(``benchmarks/results/phantom-knee-xray-dxa_3_seg-guided``). With the settings of the two lines above: not measured.
"""

import dataclasses

from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.registration.learned_demons import LearnedDemons
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.phantoms.knee import CONTRASTS
from deepatlas_tf.phantoms.projection import PROJECTIONS
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

STRONG = Augmentation(rotation_degrees=8.0, scale=0.08, translation_voxels=2.0, elastic_voxels=1.0)
MILD = Augmentation(rotation_degrees=4.0, scale=0.04, translation_voxels=1.0, elastic_voxels=0.5, noise=0.0)
TEACHERS = {"registration": "semi_deepatlas", "segmentation": "segmentation_baseline"}
WINDOW = {"window": 7}  # of the local NCC, in voxels

# At a rate of 1e-3, or with more cross-entropy, the thin tibial cartilage is never found: and what the segmentation
# network does not know, the joint turns teach the registration network to ignore
SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=800,
    epochs=4,
    labelled_fraction=(1.0, None),
    learning_rates={"segmentation": 4e-3},
    weights={"segmentation": {"supervised": 1.0, "supervised_cross_entropy": 0.3}},
    augmentation=STRONG,
)

REGISTRATION_UNSUPERVISED = Stage(
    name="registration_unsupervised",
    method="voxelmorph",
    steps=60,
    epochs=2,
    learning_rates={"registration": 3e-4},
    weights={"registration": {"similarity": 1.0, "smoothness": 0.05}},
    similarity="local_ncc",
    similarity_settings=WINDOW,
)

REGISTRATION_WEAK = Stage(
    name="registration_weak",
    method="voxelmorph",
    steps=60,
    epochs=2,
    labelled_fraction=(0.5, 0.5),
    weights={"registration": {"similarity": 1.0, "smoothness": 0.05, "anatomy": 0.5}},
    start_from={"registration": "registration_unsupervised"},
    similarity="local_ncc",
    similarity_settings=WINDOW,
)

# The stronger network teaches first: the registration network sees what it predicts, in a step that learns from it
SEMI_DEEPATLAS = Stage(
    name="semi_deepatlas",
    method="deepatlas",
    steps=240,
    epochs=3,
    turns={"registration": 1, "segmentation": 0},
    labelled_fraction=(0.3, None),
    weights={"registration": {"similarity": 1.0, "smoothness": 0.05, "anatomy": 2.0}},
    start_from={"registration": "registration_unsupervised", "segmentation": "segmentation_baseline"},
    anatomy_from="segmentation_baseline",
    similarity="local_ncc",
    similarity_settings=WINDOW,
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=240,
    epochs=3,
    turns={"registration": 1, "segmentation": 1},
    labelled_fraction=(1.0, 0.3),
    learning_rates={"registration": 3e-4, "segmentation": 1e-3},
    weights={
        "registration": {"similarity": 1.0, "smoothness": 0.05, "anatomy": 2.0},
        "segmentation": {
            "anatomy": 1.0,
            "anatomy_cross_entropy": 0.3,
            "supervised": 1.0,
            "supervised_cross_entropy": 0.3,
        },
    },
    settings={"segmentation_pairs": "aligned"},
    augmentation=MILD,
    start_from=TEACHERS,
    pseudo_from=TEACHERS,
    pseudo_warped=None,
    similarity="local_ncc",
    similarity_settings=WINDOW,
)


def get_experiment(tiny: bool = False) -> Experiment:
    """Both baselines, the weakly supervised registration, and DeepAtlas from the two pre-trained networks."""
    experiment = Experiment(
        name="phantom_knee",
        data=Data("phantom_knee", labels=3),
        networks=Networks(registration=LearnedDemons(), segmentation=Light((8, 16, 32))),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, REGISTRATION_WEAK, SEMI_DEEPATLAS, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=2),
    )
    if not tiny:
        return experiment
    data = Data("phantom_knee", shape=(24, 24, 16), spacing=(5.0, 5.5, 7.0), n_subjects=12, labels=2)
    return dataclasses.replace(experiment.tiny(), data=data)


def variant_data(variant: str, tiny: bool = False) -> Data:
    """The data of a variant. Where it is two contrasts, they are the domains, and the first has the labels."""
    contrasts = tuple(variant.split("_"))
    domains = contrasts if len(contrasts) == 2 and set(contrasts) <= set(CONTRASTS) else ()
    data = Data(f"phantom_knee/{variant}", labels=3, domains=domains)
    if not tiny:
        return data
    shape, spacing = (
        ((24, 24, 16), (5.0, 5.5, 7.0)) if not set(contrasts) & set(PROJECTIONS) else ((32, 32), (4.0, 4.0))
    )
    return dataclasses.replace(data, shape=shape, spacing=spacing, n_subjects=32 if domains else 12, labels=2)
