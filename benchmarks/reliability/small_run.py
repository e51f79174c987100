"""A run with untrained networks, as ``deepatlas train`` leaves it: for what is no question of accuracy."""

import json
from pathlib import Path

SHAPE, SPACING, CLASSES = (16, 16, 16), (2.0, 2.0, 2.5), ("background", "shell", "core")


def write_run(folder: Path) -> Path:
    """Write it: stage ``deepatlas`` with both networks, for volumes of 16 x 16 x 16 voxels and three classes."""
    from deepatlas_tf.keras_stack import keras
    from deepatlas_tf.models.registration.voxelmorph import registration_net
    from deepatlas_tf.models.segmentation.light import light_unet

    keras.utils.set_random_seed(3)
    place = folder / "deepatlas" / "nets"
    place.mkdir(parents=True)
    light_unet(SHAPE, len(CLASSES), (4, 8, 8)).save(place / "segmentation.keras", save_format="keras")
    registration_net(SHAPE, (4, 4, 4), (4, 4, 4, 4)).save(place / "registration.keras", save_format="keras")
    stage = {"name": "deepatlas", "method": "deepatlas", "steps": 80, "epochs": 2, "similarity": "ncc"}
    stage["weights"] = {"registration": {"similarity": 1.0, "smoothness": 1.0}}
    stage["turns"] = {"registration": 2, "segmentation": 1}
    settings = {"data": {"dataset": "phantom_knee", "labels": 3}, "stages": [stage]}
    about = {"dataset": "phantom_knee", "synthetic": True, "class_names": CLASSES, "shape": SHAPE, "spacing": SPACING}
    (folder / "experiment.json").write_text(json.dumps({"experiment": settings}, indent=2))
    (folder / "model.json").write_text(json.dumps(about, indent=2))
    return folder
