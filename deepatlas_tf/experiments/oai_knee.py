"""DeepAtlas on knees of the Osteoarthritis Initiative: the paper's data, grid and turns.

    deepatlas train --dataset oai_knee --manual-dir DATA --labels 5 --workdir runs/oai_knee

The data set's default variant: four structures, left knees mirrored to right ones.

Hardware: a GPU with 24 GB or more; the grid is 200 x 200 x 160 voxels of 0.7 mm.

Time and scores: not measured.
"""

import dataclasses

from deepatlas_tf.experiments import hippocampus
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Experiment

MILD = Augmentation(rotation_degrees=5.0, scale=0.05, translation_voxels=4.0, elastic_voxels=0.0)


def get_experiment(tiny: bool = False) -> Experiment:
    """The stages of the hippocampus with the paper's 20 registration turns for each segmentation turn."""
    template = hippocampus.get_experiment()
    stages = []
    for stage in template.stages:
        turns = {"registration": 20, "segmentation": 1} if stage.name == "deepatlas" else {}
        stages.append(dataclasses.replace(stage, steps=stage.steps * 10, turns=turns, augmentation=MILD))
    data = Data("oai_knee", labels=5)
    experiment = dataclasses.replace(template, name="oai_knee", data=data, stages=tuple(stages))
    if not tiny:
        return experiment
    return dataclasses.replace(experiment.tiny(), data=Data("oai_knee", (40, 40, 32), (3.5, 3.5, 3.5), labels=5))
