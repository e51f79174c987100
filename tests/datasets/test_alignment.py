"""Scans that are aligned to a reference when a data set is prepared: synthetic bodies, moved by known maps."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from deepatlas_tf.apply.fields import warp_labels
from deepatlas_tf.apply.register import register_scans
from deepatlas_tf.apply.segment import segment_scan
from deepatlas_tf.cli import main
from deepatlas_tf.datasets.alignment import choose_reference, parse
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.evaluation.evaluate import evaluate
from deepatlas_tf.keras_stack import keras
from deepatlas_tf.metrics.overlap import dice
from deepatlas_tf.models.build import build_net
from deepatlas_tf.run import make_experiment
from deepatlas_tf.runs.folder import RunFolder, net_path
from deepatlas_tf.runs.model import open_model
from deepatlas_tf.runs.predict import AtTestTime
from deepatlas_tf.scans.grid import GridTransform
from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.trained import Run
from deepatlas_tf.training.same_run import write_data, write_settings
from deepatlas_tf.types import DataError, SettingError

SPLITS = ("train", "train", "train", "validation", "test", "test")
GRID = {"shape": (24, 24, 24), "spacing": (3.0, 3.0, 3.0)}
STEPS = (0, 1, -1, 2, -2, 3)  # how far each subject is moved
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


def points(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)


def body(shape=(36, 34, 32)):
    """An asymmetric body with one structure in it: image and label map."""
    x = (points(shape) - (np.array(shape) - 1) / 2) / shape * 2
    outside, inner = (
        np.linalg.norm(x / (0.6, 0.75, 0.65), axis=-1),
        np.linalg.norm((x - 0.2) / (0.3, 0.2, 0.35), axis=-1),
    )
    label = (outside < 1).astype(np.uint8) + (inner < 1)
    return gaussian_filter(np.choose(label, [0.0, 300.0, 700.0]), 0.7).astype(np.float32), label


def turned(steps):
    return Rotation.from_euler("xyz", np.array([4, -3, 7]) * steps, degrees=True).as_matrix() * (1 + 0.02 * steps)


def moved(volume, steps, order):
    """The volume turned, scaled and shifted by so many steps."""
    middle = (np.array(volume.shape) - 1) / 2
    at = (points(volume.shape) - middle) @ turned(steps).T + middle + 0.3 * steps
    return map_coordinates(volume, np.moveaxis(at, -1, 0), order=order)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Six scans and their list; s0 lies as the template does."""
    folder, rows = tmp_path_factory.mktemp("scans"), ["subject,image,label,split"]
    image, label = body()
    for index, split in enumerate(SPLITS):
        for name, volume, order in ((f"s{index}.nii.gz", image, 1), (f"s{index}_l.nii.gz", label, 0)):
            nib.save(nib.Nifti1Image(moved(volume, STEPS[index], order), AFFINE), folder / name)
        rows.append(f"s{index},s{index}.nii.gz,s{index}_l.nii.gz,{split}")
    (folder / "scans.csv").write_text("\n".join(rows) + "\n")
    return folder / "scans.csv"


@pytest.fixture(scope="module")
def aligned(scans, tmp_path_factory):
    kept = tmp_path_factory.mktemp("kept")
    return load_dataset("nifti", data_dir=kept, manual_dir=scans, alignment="affine:s0", **GRID)


def overlap(records):
    found = [record["label"] for record in records]
    return np.mean([dice(a, b, 3) for a, b in zip(found, found[1:], strict=False)])


@pytest.mark.slow
def test_records_lie_in_the_space_of_the_reference(aligned, scans, tmp_path):
    plain = load_dataset("nifti", data_dir=tmp_path, manual_dir=scans, **GRID)
    assert plain.alignment == "none" and plain.reference is None
    assert aligned.alignment == "affine:s0" and aligned.reference == "s0"
    records = {
        r["subject"].decode(): r for split in aligned.subjects for r in aligned.records(split).as_numpy_iterator()
    }
    without = {r["subject"].decode(): r for split in plain.subjects for r in plain.records(split).as_numpy_iterator()}
    assert "plain_label" not in without["s0"]
    assert overlap(records.values()) > 0.9 > 0.85 > overlap(without.values())
    for subject, record in records.items():  # what they are measured on is what there is without the alignment
        np.testing.assert_array_equal(record["plain_label"], without[subject]["label"])
        np.testing.assert_allclose(record["plain_affine"], without[subject]["affine"])
    reference = records[aligned.reference]
    np.testing.assert_allclose(reference["affine"], reference["plain_affine"])
    # the same point of the body has one place in all records
    centre = [apply_affine(np.linalg.inv(r["affine"]), _middle(r, AFFINE)) for r in records.values()]
    assert np.ptp(centre, axis=0).max() < 0.5  # voxels


def _middle(record, affine):
    """Where the middle of the template lies in a scan, mm; by the known map."""
    steps = STEPS[int(record["subject"].decode()[1:])]
    middle = (np.array((36, 34, 32)) - 1) / 2
    return apply_affine(affine, np.linalg.inv(turned(steps)) @ (np.full(3, -0.3) * steps) + middle)


def test_samples_to_be_measured_know_the_way_to_the_network(aligned):
    (sample, *_) = aligned.measured("test")
    record = next(iter(aligned.records("test").as_numpy_iterator()))
    by_hand = np.linalg.inv(record["affine"]) @ record["plain_affine"]
    np.testing.assert_allclose(sample["plain_to_network"], by_hand)
    assert sample["image"].shape == (24, 24, 24, 1) and sample["label_weight"].tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def run(aligned, tmp_path_factory):
    """The folder of a run on aligned scans, its networks untrained."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    experiment = make_experiment("nifti", tiny=True, settings=["networks.registration=voxelmorph"])
    write_settings(experiment, folder)
    write_data(aligned, aligned.labelled["train"], RunFolder(folder))
    for stage, kind in (("registration_unsupervised", "registration"), ("segmentation_baseline", "segmentation")):
        keras.utils.set_random_seed(0)
        path = net_path(folder, stage, kind)
        path.parent.mkdir(parents=True)
        build_net(kind, experiment.networks, aligned.shape, 3).save(path, save_format="keras")
    evaluate(folder, aligned, "test", pairs_per_subject=1)
    return folder


@pytest.mark.slow
def test_a_run_is_measured_where_it_would_be_without_alignment(run):
    rows = (run / "evaluation" / "registration.csv").read_text().splitlines()
    columns, found = rows[0].split(","), {}
    for row in rows[1:]:
        values = dict(zip(columns, row.split(","), strict=True))
        found.setdefault(values["method"], []).append(float(values["dice"]))
    assert list(found)[:2] == ["identity", "alignment"]
    assert np.mean(found["alignment"]) > np.mean(found["identity"]) + 0.05
    registered = np.mean(found["registration_unsupervised"])
    assert abs(registered - np.mean(found["alignment"])) < 0.02  # untrained: hardly more than the alignment


@pytest.mark.slow
def test_atlases_are_aligned_as_the_scans_are(run, aligned, scans):
    """With an untrained segmentation network, and a registration that hardly moves: the alignment alone tells much."""
    means = evaluate(run, aligned, "test", at=AtTestTime(atlases=2)).summary
    alone, voting = (means[f"segmentation_baseline{kind}"]["segmentation"]["dice"]["mean"] for kind in ("", "_atlases"))
    assert alone < 0.5 < 0.8 < voting
    atlases = [tuple(scans.parent / f"{name}{end}.nii.gz" for end in ("", "_l")) for name in ("s1", "s2")]
    found = Run(run).segment(scans.parent / "s5.nii.gz", atlases=atlases)
    assert dice(np.asarray(found.dataobj), np.asarray(nib.load(scans.parent / "s5_l.nii.gz").dataobj), 3).min() > 0.7


def test_scans_are_brought_to_the_reference_and_results_back(run, scans, tmp_path):
    """As by hand: the label map of a network that knows where the structure lies in the reference."""
    model = open_model(run)
    assert model.grid.reference.kind == "affine" and model.grid.reference.scan.volume.shape == (24, 24, 24)
    image, label = nifti_of(scans.parent / "s5.nii.gz"), nifti_of(scans.parent / "s5_l.nii.gz").volume.astype(np.uint8)
    reference = GridTransform(AFFINE, (36, 34, 32), GRID["shape"], GRID["spacing"]).label_to_network(body()[1], 3)
    known = np.eye(3, dtype=np.float32)[reference]
    found = segment_scan(lambda image: known, model.grid, image).label
    plain = GridTransform(AFFINE, label.shape, GRID["shape"], GRID["spacing"])
    coarse = plain.label_to_source(plain.label_to_network(label, 3), 3)  # what the voxels of the network leave of it
    assert found.shape == label.shape and (dice(found, label, 3) > 0.95 * dice(coarse, label, 3)).all()
    other = nifti_of(scans.parent / "s4.nii.gz")
    result = register_scans(lambda m, f: np.zeros((*f.shape[:-1], 3), np.float32), model.grid, other, image)
    other_label = nifti_of(scans.parent / "s4_l.nii.gz")
    warped = warp_labels(other_label.volume.astype(np.uint8), other_label.affine, result.field)
    before, after = (dice(one, label, 3) for one in (other_label.volume.astype(np.uint8), warped))
    assert after.min() > 0.75 and (after > before + 0.05).all()


def nifti_of(path):
    image = nib.load(path)
    return Nifti(np.asarray(image.dataobj, np.float32), image.affine)


@pytest.mark.long
def test_an_export_carries_the_reference(run, scans, tmp_path, capsys):
    assert main(["export", str(run), "-o", str(tmp_path / "exported"), "-q"]) == 0
    exported = open_model(tmp_path / "exported")
    np.testing.assert_array_equal(exported.grid.reference.scan.volume, open_model(run).grid.reference.scan.volume)
    assert "assets/reference.nii.gz" in (tmp_path / "exported" / "1" / "MODEL_CARD.md").read_text()
    for model in (run, tmp_path / "exported"):
        out = tmp_path / f"segmented_{model.name}"
        assert main(["segment", str(scans.parent / "s4.nii.gz"), "--model", str(model), "-o", str(out), "-q"]) == 0
    first, second = (nib.load(tmp_path / f"segmented_{name}" / "s4.nii.gz").get_fdata() for name in ("run", "exported"))
    assert np.mean(first != second) < 1e-3  # two programs round differently where two classes are as likely
    pair = [str(scans.parent / name) for name in ("s3.nii.gz", "s4.nii.gz")]
    command = ["register", *pair, "--model", str(run), "-o", str(tmp_path / "registered"), "-q"]
    assert main([*command, "--affine"]) == 2 and "aligns both scans to its reference" in capsys.readouterr().err
    assert main(command) == 0 and len(list((tmp_path / "registered").iterdir())) == 4


@pytest.mark.parametrize(
    ("alignment", "error", "text"),
    [
        ("similar", SettingError, "one of none, rigid, affine"),
        ("none:s0", SettingError, "one of none, rigid, affine"),
        ("affine:s9", DataError, "names subject s9 as the reference, which is no training subject"),
        ("affine:s5", DataError, "names subject s5 as the reference, which is no training subject"),
    ],
)
def test_an_alignment_that_cannot_be(alignment, error, text, scans, tmp_path):
    with pytest.raises(error, match=text) as caught:
        load_dataset("nifti", data_dir=tmp_path, manual_dir=scans, alignment=alignment, **GRID)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_synthetic_data_have_no_alignment(tmp_path):
    with pytest.raises(SettingError, match="phantom_knee is synthetic"):
        load_dataset("phantom_knee", data_dir=tmp_path, alignment="affine")


def test_a_scan_that_cannot_be_aligned_is_named(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("deepatlas_tf.scans.affine.failure", lambda found: "it is a reflection")
    with pytest.raises(DataError, match="subject s.: the affine alignment to the reference failed .it is a reflection"):
        load_dataset("nifti", data_dir=tmp_path, manual_dir=scans, alignment="affine:s0", **GRID)
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_the_reference_is_the_one_in_the_middle():
    """By hand: three sizes of one ellipsoid; on whatever grid the scans are stored."""
    scans = {}
    for name, scale, axes in (("small", 0.7, (0, 1, 2)), ("middle", 1.0, (2, 0, 1)), ("large", 1.2, (1, 2, 0))):
        volume = (np.linalg.norm((points((30, 30, 30)) - 14.5) / (6, 8, 10), axis=-1) < 1).astype(np.float32)
        affine = np.diag([scale, scale, scale, 1.0])
        affine[:3, :3] = affine[:3, :3][:, axes]
        scans[name] = Nifti(volume.transpose(axes), affine)
    assert choose_reference(list(scans), scans.get) == "middle"
    assert choose_reference(list(scans), scans.get, "large") == "large"
    with pytest.raises(DataError, match="there is none"):
        choose_reference([], scans.get)
    assert GridTransform(scans["large"].affine, (30, 30, 30), (30, 30, 30), (1.2,) * 3).factors == (1.0, 1.0, 1.0)


def test_what_a_setting_says():
    assert parse("none") == ("none", None)
    assert parse("affine") == ("affine", None)
    assert parse("rigid:sub-01:b") == ("rigid", "sub-01:b")
