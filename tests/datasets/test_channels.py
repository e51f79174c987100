"""Own scans of two channels, from the list to the samples."""

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.training.experiment import Data, Experiment, Stage
from deepatlas_tf.training.loop import train_experiment
from deepatlas_tf.types import DataError, SettingError
from deepatlas_tf.validation.validate import validate


def load(tmp_path, source, **options):
    return load_dataset("nifti", data_dir=source, workdir=tmp_path / "work", **options)


@pytest.mark.parametrize("shape", [(10, 9, 8), (12, 20)])
def test_a_sample_has_both_channels_each_rescaled_by_itself(tmp_path, two_channels, shape):
    path = two_channels(shape=shape)
    data = load(tmp_path, path)
    assert data.channel_names == ("t1", "t2")
    assert data.samples("train").element_spec["image"].shape == (*data.shape, 2)
    record = next(data.records("train").as_numpy_iterator())
    subject = record["subject"].decode()
    transform = GridTransform(record["source_affine"], record["source_shape"], data.shape, data.spacing)
    for channel, name in enumerate((subject, f"{subject}_t2")):
        volume = nib.load(path.parent / "images" / f"{name}.nii.gz").get_fdata()
        expected = transform.image_to_network(rescale(volume))
        np.testing.assert_allclose(record["image"][..., channel], expected, atol=1e-5)
    assert len(data.source["files"]) == 18  # of six subjects, two images and a label map


def test_with_one_of_the_channels_the_records_are_those_of_one_image(tmp_path, two_channels):
    path = two_channels()
    both = load(tmp_path / "both", path)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(cells[:3]) for cells in lines).replace("image_t1", "image") + "\n")
    one = load(tmp_path / "one", path)
    assert one.channel_names == ("image",)
    for ours, of_one in zip(both.records("train"), one.records("train"), strict=True):
        np.testing.assert_array_equal(ours["image"][..., :1], of_one["image"])
        for name in set(ours) - {"image"}:
            np.testing.assert_array_equal(ours[name], of_one[name])


def test_a_changed_channel_is_prepared_anew(tmp_path, two_channels, write_nifti):
    path = two_channels()
    before = load(tmp_path, path)
    assert load(tmp_path, path).builder.data_dir == before.builder.data_dir
    write_nifti(path.parent / "images" / "s0_t2.nii.gz", np.random.default_rng(1).random((10, 9, 8), np.float32))
    assert load(tmp_path, path).builder.data_dir != before.builder.data_dir


@pytest.mark.parametrize(
    ("volume", "affine", "message"),
    [
        (np.zeros((10, 9, 8), np.float32), np.eye(4), "s3_t2.nii.gz is constant"),
        (np.arange(720.0, dtype=np.float32).reshape(9, 10, 8), np.eye(4), "channel t2, .*s3_t2.nii.gz has shape"),
        (
            np.arange(720.0, dtype=np.float32).reshape(10, 9, 8),
            np.diag([2.0, 2, 2, 1]),
            "s3_t2.nii.gz and image .*s3.nii",
        ),
    ],
)
def test_a_channel_that_cannot_be_used(tmp_path, two_channels, write_nifti, volume, affine, message):
    path = two_channels()
    write_nifti(path.parent / "images" / "s3_t2.nii.gz", volume, affine)
    with pytest.raises(DataError, match=f"subject s3: .*{message}") as error:
        load(tmp_path, path)
    assert "\n" not in str(error.value)


def test_validation_lists_channels_and_what_is_wrong_with_one(tmp_path, two_channels, write_nifti):
    path = two_channels()
    found = validate(str(path), tmp_path / "out")
    assert found.report.splitlines()[1].startswith("channels: t1, t2;") and not found.has_errors
    images = path.parent / "images"
    write_nifti(images / "s1_t2.nii.gz", np.zeros((10, 9, 8), np.float32))
    write_nifti(images / "s2_t2.nii.gz", np.random.default_rng(0).random((10, 9, 7), np.float32))
    path.write_text(path.read_text().replace("images/s3_t2.nii.gz", "").replace("images/s4.nii.gz", ""))
    found = validate(str(path), tmp_path / "out")
    errors = {(one.subjects, one.kind): one.text for one in found.findings if one.severity == "error"}
    assert set(errors) >= {
        (("s1",), "unusable image"),
        (("s2",), "channels on different grids"),
        (("s3",), "missing channel"),
        (("s4",), "missing channel"),
    }
    assert (("s4",), "no image") not in errors
    assert "subject s3: channel t2 is missing; each subject needs all of t1, t2" == errors[("s3",), "missing channel"]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("a", "voxelmorph", 2, similarity_settings={"channel_weights": (1, 2, 3)}), "a: channel_weights has 3"),
        (Stage("b", "domain_adaptation", 2), "b: domain_adaptation translates images of one channel, and these have 2"),
    ],
)
def test_stages_that_do_not_fit_the_channels(tmp_path, two_channels, stage, message):
    experiment = Experiment("own", Data("nifti"), (stage,))
    with pytest.raises(SettingError, match=f"stage {message}"):
        train_experiment(experiment, load(tmp_path, two_channels()), tmp_path / "run")
    assert not (tmp_path / "run").exists()
