"""DeepAtlas on neurite-OASIS with five label maps, in volumes or in slices.

    deepatlas train --dataset oasis/seg35 --manual-dir DATA --labels 5 --workdir runs/oasis
    deepatlas train --dataset oasis/seg4_2d --manual-dir DATA --labels 5 --workdir runs/oasis_2d

Hardware: a GPU with 80 GB for volumes (160 x 224 x 192 voxels of 1 mm), less with ``--set "data.shape=(80,112,96)"
--set "data.spacing=(2,2,2)"``; slices (160 x 192 pixels of 1 mm) train on a CPU.

Time and scores: not measured.
"""

import dataclasses

from deepatlas_tf.experiments import hippocampus
from deepatlas_tf.streams.augment import Augmentation
from deepatlas_tf.training.experiment import Data, Experiment

# The brains are already aligned to each other
MILD = Augmentation(rotation_degrees=4.0, scale=0.05, translation_voxels=3.0, elastic_voxels=0.0, gamma=0.2)


def get_experiment(tiny: bool = False) -> Experiment:
    """The stages of the hippocampus, with the changes of pose that are left after affine alignment."""
    template = hippocampus.get_experiment()
    stages = tuple(dataclasses.replace(stage, augmentation=MILD) for stage in template.stages)
    experiment = dataclasses.replace(template, name="oasis", data=variant_data(None, tiny), stages=stages)
    return experiment.tiny() if tiny else experiment


def variant_data(variant: str | None, tiny: bool = False) -> Data:
    """The data of a variant, on its own grid; the variants of slices end in ``_2d``."""
    data = Data(f"oasis/{variant}" if variant else "oasis", labels=5)
    if not tiny:
        return data
    slices = variant is not None and variant.endswith("_2d")
    shape, spacing = ((40, 48), (4.0, 4.0)) if slices else ((40, 56, 48), (4.0, 4.0, 4.0))
    return dataclasses.replace(data, shape=shape, spacing=spacing)
