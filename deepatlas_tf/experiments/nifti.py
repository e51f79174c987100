"""DeepAtlas on your own NIfTI scans, all label maps used; see ``datasets/nifti/README.md`` for how to list them.

    deepatlas train --dataset nifti --data-dir scans.csv --workdir runs/mine

The stages are the hippocampus'. Their weight of the bending energy is for voxels of that grid (1 mm); where the tables
show many folds raise ``stages.*.weights.registration.smoothness``, where there are none at all lower it. A grid that is
chosen for you has up to a million voxels: for a GPU. On a CPU take a coarser one first, such as
``--set data.max_voxels=100000`` or ``--set data.spacing=(3,3,3)``, or ``--steps-scale 0.1``.

Time and scores: not measured; they depend on the scans.
"""

import dataclasses

from deepatlas_tf.experiments import hippocampus
from deepatlas_tf.training.experiment import Data, Experiment

TINY = 2**14  # voxels; a cube of 25


def get_experiment(tiny: bool = False) -> Experiment:
    """Both baselines, the weakly supervised registration, and DeepAtlas from the two pre-trained networks."""
    template = hippocampus.get_experiment()
    experiment = dataclasses.replace(template, name="nifti", data=Data("nifti"))
    return dataclasses.replace(experiment.tiny(), data=Data("nifti", max_voxels=TINY)) if tiny else experiment
