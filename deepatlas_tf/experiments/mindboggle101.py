"""DeepAtlas on MindBoggle-101: the paper's brains, grid, classes and turns, with 21 label maps.

    deepatlas train --dataset mindboggle101 --manual-dir DATA --labels 21 --workdir runs/mindboggle101

Hardware: a GPU with 80 GB; the grid is 168 x 200 x 169 voxels of 1 mm, and the probabilities of its 32 classes take
0.7 GB for each image. For less, ``--set "data.shape=(64,80,64)" --set "data.spacing=(2.75,2.75,2.75)"``.

Time and scores: not measured.
"""

import dataclasses

from deepatlas_tf.experiments import hippocampus
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Experiment

# The brains are already aligned to MNI152; left and right are one class, so that a brain may be mirrored
MILD = Augmentation(
    rotation_degrees=4.0, scale=0.05, translation_voxels=3.0, elastic_voxels=0.0, gamma=0.2, flip_axes=(0,)
)


def get_experiment(tiny: bool = False) -> Experiment:
    """The stages of the hippocampus with the paper's 20 registration turns for each segmentation turn."""
    template = hippocampus.get_experiment()
    stages = []
    for stage in template.stages:
        turns = {"registration": 20, "segmentation": 1} if stage.name == "deepatlas" else stage.turns
        stages.append(dataclasses.replace(stage, turns=turns, steps=stage.steps * 10, batch_size=1, augmentation=MILD))
    data = Data("mindboggle101", labels=21)
    experiment = dataclasses.replace(template, name="mindboggle101", data=data, stages=tuple(stages))
    if not tiny:
        return experiment
    return dataclasses.replace(experiment.tiny(), data=Data("mindboggle101", (32, 40, 32), (5.5, 5.5, 5.5), labels=2))
