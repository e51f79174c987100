"""A small run with untrained networks, and scans of awkward grids, for the commands on NIfTI files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet

SHAPE, SPACING, CLASSES = (24, 24, 24), (2.0, 2.5, 2.0), ("background", "femur", "tibia")
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [9, -6, 12], degrees=True).as_matrix() * [1.7, 1.5, 2.4]
OBLIQUE[:3, 3] = -22, -18, -25
GRIDS = {
    "flipped": ((30, 40, 18), np.array([[-1.5, 0, 0, 20], [0, 1.2, 0, -25], [0, 0, 3.0, -24], [0, 0, 0, 1]])),
    "permuted": ((26, 22, 28), np.array([[0, 0, 1.8, -26], [1.7, 0, 0, -20], [0, -2.2, 0, 24], [0, 0, 0, 1]])),
    "oblique": ((24, 28, 20), OBLIQUE),
    "training": (SHAPE, np.diag([*SPACING, 1.0])),
}


def write_run(
    folder: Path, stages=("first", "deepatlas"), nets=("segmentation", "registration"), channels=("image",)
) -> Path:
    """The folder as ``deepatlas train`` leaves it; the fields are smooth, and some voxels large."""
    keras.utils.set_random_seed(3)
    segmentation = light_unet(SHAPE, len(CLASSES), (4, 8, 8), channels=len(channels))
    widths = (4, 4, 4), (4, 4, 4, 4)
    registration = registration_net(SHAPE, *widths, diffeomorphic=True, int_steps=2, channels=len(channels))
    flow = registration.get_layer("flow")
    flow.set_weights([flow.get_weights()[0] * 8e3, np.array([0.5, -0.3, 0.4], np.float32)])
    saved = {"segmentation": segmentation, "registration": registration}
    for stage in stages:
        place = folder / stage / "nets"
        place.mkdir(parents=True)
        for name in nets:
            saved[name].save(place / f"{name}.keras", save_format="keras")
    settings = {"method": "deepatlas", "steps": 80, "epochs": 2, "similarity": "ncc"}
    settings["weights"] = {"registration": {"similarity": 1.0, "smoothness": 1.0}}
    settings["turns"] = {"registration": 2, "segmentation": 1}
    experiment = {
        "data": {"dataset": "phantom_knee", "labels": 3},
        "stages": [{"name": name, **settings} for name in stages],
        "evaluation": {"pairs_per_subject": 1},
    }
    model = {"dataset": "phantom_knee", "synthetic": True, "class_names": CLASSES, "shape": SHAPE, "spacing": SPACING}
    model |= {"channel_names": channels} if len(channels) > 1 else {}  # as runs of before there could be several
    (folder / "experiment.json").write_text(json.dumps({"experiment": experiment}))
    (folder / "model.json").write_text(json.dumps(model))
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "knee")


@pytest.fixture(scope="session")
def exported(run_folder, tmp_path_factory) -> Path:
    """Version 1 of the run, whose evaluation is made up."""
    measured = {name: {"mean": 0.5, "per_class": {"femur": 0.7, "tibia": 0.3}} for name in ("dice", "hd95_mm")}
    (run_folder / "evaluation").mkdir()
    (run_folder / "evaluation" / "summary.json").write_text(json.dumps({"deepatlas": {"segmentation": measured}}))
    out = tmp_path_factory.mktemp("exported") / "knee"
    assert main(["export", str(run_folder), "-o", str(out), "-q"]) == 0
    return out


@pytest.fixture(scope="session")
def exported_registration(tmp_path_factory) -> Path:
    """Version 2 of a run that only registers; version 1 is an empty folder."""
    folder = tmp_path_factory.mktemp("registration")
    run = write_run(folder / "run", stages=("registration",), nets=("registration",))
    (folder / "out" / "1").mkdir(parents=True)
    assert main(["export", str(run), "-o", str(folder / "out"), "-q"]) == 0
    return folder / "out"


@pytest.fixture(scope="session")
def two_channel_run(tmp_path_factory) -> Path:
    """A run whose scans have the channels t1 and t2."""
    return write_run(tmp_path_factory.mktemp("runs") / "channels", stages=("deepatlas",), channels=("t1", "t2"))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Eight labelled scans on two grids, as a prepared data set with the grid and the classes of the run."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(1)
    lines = ["subject,image,label"]
    for number in range(1, 9):
        shape, affine = GRIDS["flipped" if number % 2 else "permuted"]
        volume = gaussian_filter(rng.random(shape), 2)
        label = 1 + (volume > np.median(volume)).astype(np.uint8)
        name = f"case_{number:03}"
        for kind, values in (("image", (volume * 1000).astype(np.int16)), ("label", label)):
            nib.save(nib.Nifti1Image(values, affine), folder / f"{name}_{kind}.nii.gz")
        lines.append(f"{name},{name}_image.nii.gz,{name}_label.nii.gz")
    (folder / "labels.csv").write_text("number,name\n1,femur\n2,tibia\n")
    (folder / "scans.csv").write_text("\n".join(lines))
    place = {"data_dir": folder / "scans.csv", "workdir": folder / "run"}
    return load_dataset("nifti", shape=SHAPE, spacing=SPACING, **place)


@pytest.fixture
def scans(tmp_path, write_nifti) -> dict[str, Path]:
    """One scan on each of the grids, int16, smooth, with a black border on one side."""
    found = {}
    for seed, (name, (shape, affine)) in enumerate(GRIDS.items()):
        volume = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
        volume = (30000 * (volume - volume.min())).astype(np.int16)
        volume[:2] = 0
        found[name] = write_nifti(tmp_path / "scans" / f"{name}.nii.gz", volume, affine)
    return found
