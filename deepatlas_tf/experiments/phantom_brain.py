"""DeepAtlas on the synthetic brain phantom: eight structures with a folded cortex, without a download. Not tuned.

    deepatlas train --dataset phantom_brain --workdir runs/phantom_brain
    deepatlas train --dataset phantom_brain/t1_t2 --method seg_guided --workdir runs/phantom_brain_t1_t2

The images are synthetic: results say that the method works, not how well it works on brains. Augmentation and
unsupervised registration are those of the knee phantom. The grid has 48 x 64 x 48 voxels of 3.3 mm, to which the weight
of the bending energy belongs.

Time and scores: not measured.
"""

import dataclasses

from deepatlas_tf.experiments.phantom_knee import REGISTRATION_UNSUPERVISED, STRONG
from deepatlas_tf.models.networks import Networks
from deepatlas_tf.models.segmentation.light import Light
from deepatlas_tf.training.experiment import Data, Evaluation, Experiment, Stage

SEGMENTATION_BASELINE = Stage(
    name="segmentation_baseline",
    method="segmentation",
    steps=300,
    epochs=3,
    labelled_fraction=(1.0, None),
    learning_rates={"segmentation": 2e-3},
    augmentation=STRONG,
)

DEEPATLAS = Stage(
    name="deepatlas",
    method="deepatlas",
    steps=600,
    epochs=6,
    turns={"registration": 2, "segmentation": 1},
    labelled_fraction=(0.9, 0.3),
    weights={
        "registration": {"similarity": 1.0, "smoothness": 1.0, "anatomy": 1.0},
        "segmentation": {"anatomy": 0.3, "supervised": 1.0, "supervised_cross_entropy": 1.0},
    },
    augmentation=STRONG,
    start_from={
        "registration": "registration_unsupervised",
        "segmentation": "segmentation_baseline",
    },
)


def get_experiment(tiny: bool = False) -> Experiment:
    """Both baselines, and DeepAtlas from the two pre-trained networks."""
    experiment = Experiment(
        name="phantom_brain",
        data=Data("phantom_brain", labels=3),
        networks=Networks(segmentation=Light((12, 24, 48))),
        stages=(SEGMENTATION_BASELINE, REGISTRATION_UNSUPERVISED, DEEPATLAS),
        evaluation=Evaluation(pairs_per_subject=2),
    )
    if not tiny:
        return experiment
    data = Data("phantom_brain", shape=(24, 32, 24), spacing=(6.6, 6.6, 6.6), n_subjects=12, labels=2)
    return dataclasses.replace(experiment.tiny(), data=data)


def variant_data(variant: str, tiny: bool = False) -> Data:
    """The data of a variant: a contrast, or two. These are the domains, and the first has the labels."""
    contrasts = tuple(variant.split("_"))
    domains = contrasts if len(contrasts) == 2 else ()
    data = Data(f"phantom_brain/{variant}", labels=3, domains=domains)
    if not tiny:
        return data
    n_subjects = 32 if domains else 12
    return dataclasses.replace(data, shape=(24, 32, 24), spacing=(6.6, 6.6, 6.6), n_subjects=n_subjects, labels=2)
