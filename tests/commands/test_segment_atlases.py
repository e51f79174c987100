"""``deepatlas segment --atlas``: labelled scans vote with the network."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import deepatlas_tf as da
from deepatlas_tf.apply.atlases import read_atlas
from deepatlas_tf.cli import main
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.models.registration.voxelmorph import registration_net
from deepatlas_tf.models.segmentation.light import light_unet
from deepatlas_tf.runs import model
from deepatlas_tf.runs.atlases import Atlas, with_atlases
from deepatlas_tf.scans.intensity import rescale
from deepatlas_tf.types import DataError, SettingError

SHAPE, AFFINE = (24, 24, 24), np.diag([2.0, 2.5, 2.0, 1.0])
NUMBERS = {0: 0, 1: 17, 2: 70000}


def values(path):
    return np.asarray(nib.load(path).dataobj)


def segment(*arguments):
    return main(["segment", *map(str, arguments), "-q"])


def drawn(seed):
    """A smooth image on the grid of training, and a label map of boxes."""
    image = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 2)
    label = np.zeros(SHAPE, np.int16)
    label[3 + seed : 15, 4:20, 5:18], label[16:22, 2:12, 4:20] = 1, 2
    return (3e4 * (image - image.min())).astype(np.int16), label


@pytest.fixture
def atlases(tmp_path, write_nifti):
    """Two atlases, (image, label map) each."""
    found = []
    for seed in (5, 6):
        files = [tmp_path / "atlases" / f"{name}{seed}.nii.gz" for name in ("image", "label")]
        found.append([write_nifti(path, volume, AFFINE) for path, volume in zip(files, drawn(seed), strict=True)])
    return found


def options(atlases):
    return [word for files in atlases for word in ("--atlas", *files)]


def by_hand(run, scan, atlases, **settings):
    """The label map of a scan on the grid of training."""
    opened = model.open_model(run)
    samples = [
        Atlas(rescale(values(i))[..., None], values(m).astype(np.int32), np.ones(3, np.float32)) for i, m in atlases
    ]
    fused = with_atlases(opened.segmenter(), opened.registrar("deepatlas", **settings), samples)
    return fused(rescale(values(scan))[..., None]).argmax(axis=-1)


@pytest.mark.long
@pytest.mark.parametrize("steps", [0, 2])
def test_atlases_vote_with_the_network(steps, run_folder, scans, atlases, tmp_path):
    expected = by_hand(run_folder, scans["training"], atlases, instance_steps=steps)
    more = ["--instance-steps", steps] if steps else []
    call = (scans["training"], "--model", run_folder, *options(atlases), *more)
    assert segment(*call, "-o", tmp_path / "out") == 0
    found = values(tmp_path / "out" / "training.nii.gz")
    assert len(np.unique(expected)) == 3 and (found != expected).mean() < 1e-3  # two ways to the same float32
    memory = [tuple(nib.Nifti1Image(values(path), AFFINE) for path in files) for files in atlases]
    run = da.Run(run_folder)
    assert np.mean(np.asarray(run.segment(scans["training"]).dataobj) != found) > 0.05
    for given in (atlases, memory):
        again = run.segment(scans["training"], atlases=given, instance_steps=steps)
        np.testing.assert_array_equal(np.asarray(again.dataobj), found)


@pytest.mark.long
def test_an_atlas_stored_otherwise_is_the_same(run_folder, scans, atlases, tmp_path, write_nifti):
    """With axes flipped and exchanged, a border, and the numbers of the label files of training."""
    to_old = np.array([[0, 1, 0, 0], [0, 0, -1, 23], [1, 0, 0, 0], [0, 0, 0, 1]])  # new voxel -> old voxel
    shift = np.eye(4)
    shift[:3, 3] = -6
    (run := tmp_path / "run").mkdir()
    for path in run_folder.iterdir():
        (run / path.name).symlink_to(path)
    about = json.loads((run / "model.json").read_text())
    (run / "model.json").unlink()
    (run / "model.json").write_text(json.dumps({**about, "class_numbers": list(NUMBERS.values())}))
    others = []
    for image, label in atlases:
        volumes = values(image), np.vectorize(NUMBERS.get)(values(label)).astype(np.int32)
        stored = [np.pad(volume[:, ::-1].transpose(2, 0, 1), 6) for volume in volumes]
        paths = [tmp_path / "others" / path.name for path in (image, label)]
        others.append([write_nifti(p, v, AFFINE @ to_old @ shift) for p, v in zip(paths, stored, strict=True)])
    for scan in ("training", "oblique"):
        expected = np.asarray(da.Run(run_folder).segment(scans[scan], atlases=atlases).dataobj)
        found = np.asarray(da.Run(run).segment(scans[scan], atlases=others).dataobj)
        np.testing.assert_array_equal(found, np.vectorize(NUMBERS.get)(expected))
        assert len(np.unique(found)) == 3


def test_an_atlas_with_the_merged_numbers_of_training(atlases, write_nifti):
    """It is that with the numbers that the model writes; what may be either is refused where they differ."""
    merged = ((0, 9), (1, 3), (7, 70000))
    grid = model.Grid(("background", "one", "two"), SHAPE, tuple(np.diag(AFFINE)[:3]), merged_numbers=merged)
    image, label = atlases[0]
    classes = values(label).astype(np.int32)
    other = np.indices(SHAPE)[2] > 9  # where the second number of a class is
    numbers = np.where(other, np.array([9, 3, 7])[classes], np.array([0, 1, 70000])[classes]).astype(np.int32)

    def read(volume):
        return read_atlas([image], write_nifti(label.with_name("other.nii.gz"), volume, AFFINE), grid, "a").label

    np.testing.assert_array_equal(read(numbers), classes)
    np.testing.assert_array_equal(read(classes), classes)
    same_either_way = np.where(classes == 1, 1, 0).astype(np.uint8)
    np.testing.assert_array_equal(read(same_either_way), same_either_way)
    with pytest.raises(DataError, match="subject a: label map .*other.nii.gz has numbers that the model.*: 2, 5"):
        read(np.where(classes == 1, 5, classes) + np.where(other & (classes == 0), 9, 0).astype(np.int32))
    grid = grid._replace(merged_numbers=((0,), (2,), (1, 3)))
    with pytest.raises(DataError, match="are both those of the label files of training and those that segment writes"):
        read(classes)


def test_ignored_voxels_of_an_atlas(atlases, write_nifti):
    grid = model.Grid(("background", "one", "two"), SHAPE, tuple(np.diag(AFFINE)[:3]))
    image, label = atlases[0]
    volume = values(label).copy()
    volume[:, :5] = 9
    write_nifti(label, volume, AFFINE)
    with pytest.raises(DataError, match="numbers that the model does not know: 9"):
        read_atlas([image], label, grid, "a")
    found = read_atlas([image], label, grid._replace(ignore_number=9), "a")
    np.testing.assert_array_equal(found.label, np.where(volume == 9, 3, volume))


@pytest.mark.long
def test_an_export_and_a_cross_validation_take_atlases(run_folder, exported, scans, atlases, tmp_path, capsys):
    for fold in ("fold_0", "fold_1"):
        (tmp_path / fold).symlink_to(run_folder)
    (tmp_path / "folds.json").write_text('{"folds": ["fold_0", "fold_1"]}')
    expected = da.Run(run_folder).segment(scans["training"], atlases=atlases)
    for path in (exported, tmp_path):
        found = da.Run(path).segment(scans["training"], atlases=atlases)
        assert np.mean(np.asarray(found.dataobj) != np.asarray(expected.dataobj)) < 1e-3
    call = (scans["training"], *options(atlases), "--model", exported, "--instance-steps", 2, "-o", tmp_path / "out")
    assert segment(*call) == 2 and "an exported model has no loss" in capsys.readouterr().err


@pytest.mark.slow
def test_left_atlases_are_mirrored_with_the_scans(run_folder, scans, atlases, tmp_path, write_nifti):
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])

    def left(path):
        return write_nifti(tmp_path / "left" / path.name, values(path), mirror @ nib.load(path).affine)

    call = ("--model", run_folder, "-o")
    assert segment(scans["oblique"], *options(atlases), *call, tmp_path / "right_out") == 0
    mirrored = [[left(path) for path in files] for files in atlases]
    assert segment(left(scans["oblique"]), *options(mirrored), "--mirror", *call, tmp_path / "left_out") == 0
    found, expected = (values(tmp_path / out / "oblique.nii.gz") for out in ("left_out", "right_out"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_a_scan_that_is_too_large_is_refused_and_the_others_are_done(
    run_folder, scans, atlases, tmp_path, write_nifti, capsys
):
    volume = np.random.default_rng(0).random((70, 30, 24)).astype(np.float32)
    long = write_nifti(tmp_path / "scans" / "long.nii.gz", volume, AFFINE)
    call = ("--model", run_folder, "-o", tmp_path / "out")
    assert segment(long, scans["training"], *options(atlases), *call) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    assert "long.nii.gz: it takes 70 x 30 x 24 voxels" in error and "or do without --atlas" in error
    assert (tmp_path / "out" / "training.nii.gz").exists()
    label = write_nifti(tmp_path / "scans" / "label.nii.gz", (volume > 0.5).astype(np.uint8), AFFINE)
    with pytest.raises(DataError, match="long.nii.gz, which is to vote: it takes 70 x 30 x 24 voxels"):
        da.Run(run_folder).segment(scans["training"], atlases=[(long, label)])


def test_steps_without_an_atlas_are_refused(run_folder, scans, tmp_path, capsys):
    assert segment(scans["training"], "--model", run_folder, "--instance-steps", 2, "-o", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        "error: --instance-steps refines the registrations of atlases: add --atlas IMAGE LABEL or --template SCAN\n"
    )
    with pytest.raises(SettingError, match="add --atlas IMAGE LABEL"):
        da.Run(run_folder).segment(scans["training"], instance_steps=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "status", "hint"),
    [
        (lambda v: np.where(v == 2, 7, v), 1, "label.nii.gz has numbers that the model does not know: 7"),
        (lambda v: v[:-1], 1, "label.nii.gz has shape (23, 24, 24)"),
        (lambda v: (v[::-1], np.diag([2.0, 2.5, 3.0, 1.0])), 1, "have different affines"),
        (lambda v: v + np.float32(0.5), 1, "label.nii.gz has values that are not integers"),
        (None, 1, "there is no file"),
        ("no registration", 2, "no finished stage of"),
    ],
)
def test_a_bad_atlas_is_one_line(change, status, hint, run_folder, scans, atlases, tmp_path, write_nifti, capsys):
    run, ((image, label), _) = run_folder, atlases
    if change == "no registration":
        (run := tmp_path / "run").mkdir()
        for path in (run_folder / "experiment.json", run_folder / "model.json"):
            (run / path.name).symlink_to(path)
        (run / "deepatlas" / "nets").mkdir(parents=True)
        net = run_folder / "deepatlas" / "nets" / "segmentation.keras"
        (run / "deepatlas" / "nets" / net.name).symlink_to(net)
    elif change is None:
        label = tmp_path / "nowhere.nii.gz"
    else:
        changed = change(values(label))
        volume, affine = changed if isinstance(changed, tuple) else (changed, AFFINE)
        label = write_nifti(tmp_path / "bad" / "label.nii.gz", volume, affine)
    assert segment(scans["training"], "--model", run, "--atlas", image, label, "-o", tmp_path / "out") == status
    error = capsys.readouterr().err.strip()
    assert hint in error and error.startswith("error: ") and "\n" not in error
    assert not (tmp_path / "out" / "training.nii.gz").exists()


def test_a_result_never_replaces_an_atlas(run_folder, scans, atlases, capsys):
    (image, label), _ = atlases
    image = image.rename(image.with_name("training.nii.gz"))
    call = ("--model", run_folder, "--atlas", image, label, "--overwrite", "-o", image.parent)
    assert segment(scans["training"], *call) == 1 and "is an input" in capsys.readouterr().err


@pytest.mark.slow
def test_slices_have_atlases_too(tmp_path, write_nifti):
    """An atlas that is the slice itself but for one voxel: its label map is right, and nothing has to be moved."""
    keras.utils.set_random_seed(0)
    about = {"class_names": ["background", "bone"], "shape": [16, 16], "spacing": [2.0, 2.0], "dataset": "made up"}
    stage = {"name": "only", "method": "deepatlas", "steps": 80, "epochs": 1, "similarity": "ncc"}
    stage |= {"turns": {"segmentation": 1, "registration": 1}, "weights": {"registration": {"similarity": 1.0}}}
    settings = {"data": {"dataset": "made up"}, "stages": [stage]}
    for name, content in (("experiment.json", {"experiment": settings}), ("model.json", about)):
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "only" / "nets").mkdir(parents=True)
    light_unet((16, 16), 2, (4, 4)).save(tmp_path / "only" / "nets" / "segmentation.keras")
    registration_net((16, 16), (4, 4), (4, 4, 4)).save(tmp_path / "only" / "nets" / "registration.keras")
    affine, rng = np.diag([2.0, 2.0, 3.0, 1.0]), np.random.default_rng(0)
    image, label = rng.normal(100, 9, (16, 14, 1)).astype(np.float32), np.zeros((16, 14, 1), np.uint8)
    label[4:11, 3:9] = 1
    other = image.copy()
    other[2, 2] += 1
    scan, *atlas = (
        write_nifti(tmp_path / f"{name}.nii.gz", volume, affine)
        for name, volume in (("scan", image), ("other", other), ("label", label))
    )
    found = da.Run(tmp_path).segment(scan, atlases=[tuple(atlas)])
    predicted = da.Run(tmp_path).segment(scan)
    assert found.shape == image.shape and 0.9 < np.mean(np.asarray(found.dataobj) == label)
    assert np.mean(np.asarray(predicted.dataobj) == label) < 0.9
