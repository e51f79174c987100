"""Synthetic knees in 2D as a data set, and a run on them whose networks are untrained."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.phantoms.knee import CLASS_NAMES, knee
from deepatlas_tf.runs.files import through_json, write_json
from deepatlas_tf.runs.folder import TASKS, net_path
from deepatlas_tf.training.experiment import Data, Experiment
from deepatlas_tf.training.settings import settings_dict

SHAPE, SPACING = (32, 32), (4.0, 4.0)
TRAINED = {"segmentation": ("segmentation",), "voxelmorph": ("registration",)}


@pytest.fixture
def made_up_dataset():
    """made_up_dataset(splits): a data set of knees; ``splits`` says how many subjects each has."""

    def make(**splits):
        splits = splits or {"test": 3}
        names = iter(f"knee{i}" for i in range(sum(splits.values())))
        subjects = {split: tuple(next(names) for _ in range(n)) for split, n in splits.items()}

        def samples(split):
            numbers = [int(subject[4:]) for subject in subjects[split]]
            images, labels = zip(*(knee(number, SHAPE, SPACING) for number in numbers), strict=True)
            arrays = {
                "image": np.stack(images)[..., None].astype(np.float32),
                "label": np.stack(labels).astype(np.int32),
                "label_weight": np.ones((len(numbers), len(CLASS_NAMES)), np.float32),
                "subject": np.array(subjects[split]),
            }
            return tf.data.Dataset.from_tensor_slices(arrays)

        return SimpleNamespace(
            name="phantom_knee",
            class_names=CLASS_NAMES,
            spacing=SPACING,
            synthetic=True,
            subjects=subjects,
            labelled=subjects,
            domains={subject: "" for split in subjects for subject in subjects[split]},
            samples=samples,
            measured=lambda split: samples(split).as_numpy_iterator(),
        )

    return make


@pytest.fixture
def write_run():
    """write_run(workdir, *stages): a finished run whose registrations begin at the identity."""

    def write(workdir, *stages):
        keras.utils.set_random_seed(0)
        experiment = Experiment("phantom_knee", Data("phantom_knee"), stages)
        write_json(workdir / "experiment.json", {"experiment": through_json(settings_dict(experiment))})
        for stage in stages:
            for task in TRAINED.get(stage.method, TASKS):
                path = net_path(workdir, stage.name, task)
                path.parent.mkdir(parents=True, exist_ok=True)
                small = registration_net(SHAPE, (4, 4), (4, 4, 4)) if task == "registration" else None
                (small or light_unet(SHAPE, len(CLASS_NAMES), (4, 8))).save(path)

    return write
