"""benchmarks/joint_peers.py: what the peers are given, how they are measured, and which trainings there are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # scripts, not a package

import joint_peers  # noqa: E402
from joint import curves, given, shown, write  # noqa: E402
from joint import folder as layout  # noqa: E402
from peers.folder import read_volume, write_field, write_json, write_volume  # noqa: E402

from deepatlas_tf.runs.files import read_json, write_rows  # noqa: E402
from deepatlas_tf.types import DataError  # noqa: E402

SHAPE, SPACING = (12, 10, 8), (2.0, 2.5, 3.0)
CLASSES = ("background", "cube")
SUBJECTS = {"train": ("a", "b", "c"), "validation": ("d", "e"), "test": ("f", "g")}


def cube(shift):
    """A label map with a cube of 4 x 4 x 4 voxels, from voxel ``shift`` of the first axis on."""
    label = np.zeros(SHAPE, np.int32)
    label[shift : shift + 4, 2:6, 2:6] = 1
    return label


class Listed(list):
    """In place of a ``tf.data.Dataset``."""

    def __init__(self, samples):
        super().__init__(samples)
        self.as_numpy_iterator = self.__iter__


def samples(split, weight=1.0):
    """Each scan of all splits has a cube in another place."""
    first = {"train": 0, "validation": 3, "test": 5}[split]
    for index, subject in enumerate(SUBJECTS[split]):
        label = cube(first + index)
        sample = {"image": label[..., None].astype(np.float32), "label": label}
        yield {**sample, "subject": subject.encode(), "label_weight": np.array([1.0, weight], np.float32)}


@pytest.fixture
def run(monkeypatch):
    """A run in three stages that was trained with the label map of ``b``."""
    grid = {"class_names": CLASSES, "shape": SHAPE, "spacing": SPACING}
    dataset = SimpleNamespace(
        name="made_up",
        synthetic=True,
        subjects=SUBJECTS,
        labelled=SUBJECTS,
        domains=dict.fromkeys("abcdefg", ""),
        alignment="none",
        samples=lambda split: Listed(samples(split)),
        channel_names=("image",),
        **grid,
    )
    start = {"segmentation": "baseline", "registration": "registration"}
    stages = [{"name": name, "start_from": {}, "pseudo_from": {}} for name in ("baseline", "registration", "unused")]
    stages.append({"name": "deepatlas", "start_from": start, "pseudo_from": start, "anatomy_from": "baseline"})
    folder = SimpleNamespace(path=Path("made_up"))
    folder.data = lambda: {"used_labels": ["b"], "subjects": {}, "labelled": {}}
    folder.model = lambda: {name: list(value) for name, value in grid.items()}
    folder.record = dict
    folder.settings = lambda: {"evaluation": {"pairs_per_subject": 1}, "seed": 3, "stages": stages}
    folder.stages = lambda: [
        SimpleNamespace(name=stage["name"], metrics=lambda n=n: metrics(n)) for n, stage in enumerate(stages, start=1)
    ]
    folder.table = lambda task: our_rows(task)
    segment, register = lambda image: image[..., 0], lambda moving, fixed: np.zeros((*SHAPE, 3), np.float32)
    predictors = SimpleNamespace(labellers={"deepatlas": segment}, registrars={"identity": None, "deepatlas": register})
    monkeypatch.setattr(write, "RunFolder", lambda _: folder)
    monkeypatch.setattr(write, "dataset_of_run", lambda *_: dataset)
    monkeypatch.setattr(write, "load_predictors", lambda _: predictors)
    monkeypatch.setattr(write, "check", lambda *_: None)
    return dataset


def metrics(stage):
    """Two epochs of a stage, the second of which is better; the second stage has no segmentation network."""
    rows = [{"seconds": 30.0 * stage, "val_segmentation_dice": 0.3 + 0.1 * stage + 0.05 * epoch} for epoch in range(2)]
    return [{"seconds": row["seconds"], "val_registration_dice": 0.2} for row in rows] if stage == 2 else rows


def our_rows(task):
    measures = {"dice": 0.5, "hd95_mm": 4.0, "assd_mm": 1.0, "hausdorff_mm": 5.0}
    case = {"subject": "f"} if task == "segmentation" else {"moving": "f", "fixed": "g"}
    field = {} if task == "segmentation" else {"folds_percent": 0.0, "sdlogj": 0.1}
    return [{"method": "deepatlas", **case, "class": "cube", **measures, **field}]


@pytest.fixture
def out(run, tmp_path):
    """The scans as they are written."""
    found = layout.JointFolder(tmp_path / "out")
    write.write(Path("made_up"), found)
    return found


def test_no_label_map_of_a_test_scan_reaches_the_peers(out):
    about = out.given.about()
    assert about["labelled"] == ["train-001"] and about["seed"] == 3
    assert [len(about["scans"][split]) for split in given.SPLITS] == [3, 2, 2]
    labels = [path for path in out.given.path.rglob("*.nii.gz") if path.parent.name != "images"]
    kinds = {f"{path.parent.name}/{path.name.split('.')[0]}" for path in labels}
    assert kinds == {"labels/train-001", "validation_labels/validation-000", "validation_labels/validation-001"}
    tests = [sample["label"] for sample in samples("test")]
    assert not any(np.array_equal(read_volume(path), label) for path in labels for label in tests)
    np.testing.assert_array_equal(read_volume(out.given.label_file("train-001")), cube(1))
    np.testing.assert_array_equal(read_volume(out.label_file("test-001")), cube(6))
    assert not out.label_file("test-001").is_relative_to(out.given.path)
    texts = [path.read_text("utf-8") for path in out.given.path.rglob("*.json")]
    assert not any(f'"{subject}"' in text for text in texts for subject in SUBJECTS["test"])


def test_minutes_of_a_stage_are_those_of_all_that_it_needs(out):
    ours = out.stored(out.ours_file)
    assert ours["stages"] == {"baseline": 1.0, "registration": 2.0, "unused": 3.0, "deepatlas": 7.0}
    assert ours["minutes"] == 10.0 and set(ours["seconds"]["registration"]) == {"deepatlas"}


def test_the_curve_of_a_stage_begins_after_the_stages_that_it_needs(out):
    found = out.stored(out.ours_file)["curves"]
    assert found["baseline"] == [{"seconds": 30.0, "segmentation": 0.4}, {"seconds": 60.0, "segmentation": 0.45}]
    assert found["registration"] == [{"seconds": 60.0, "registration": 0.2}, {"seconds": 120.0, "registration": 0.2}]
    assert [row["seconds"] for row in found["deepatlas"]] == [300.0, 420.0]  # 1 and 2 minutes of others, 4 of its own


def test_the_best_of_a_curve_and_when_another_was_as_good():
    rows = [{"seconds": 9.0, "segmentation": 0.6}, {"seconds": 3.0, "segmentation": 0.6}, {"seconds": 1.0}]
    assert curves.best(rows, "segmentation") == (0.6, 3.0) and curves.best(rows, "registration") is None
    assert curves.reached(rows, "segmentation", 0.6) == 3.0 and curves.reached(rows, "segmentation", 0.61) is None


def test_a_task_that_a_run_does_not_learn_has_no_row():
    peer = [{"seconds": 6.0, "segmentation": 0.5, "registration": 0.5}]
    run = {"curves": {"baseline": [{"seconds": 3.0, "segmentation": 0.6}]}}
    result = {"run": run, "methods": {"peer": {"training": {"validation": peer}}}}
    assert curves.markdown(result).splitlines()[2:] == ["| segmentation | peer | 0.500 | 0.1 | 0.1 | 0.50 | 0.600 |"]


def test_a_label_map_that_lacks_classes_is_refused(run, tmp_path):
    run.samples = lambda split: Listed(samples(split, weight=0.0))
    with pytest.raises(DataError, match="lacks classes"):
        write.write(Path("made_up"), layout.JointFolder(tmp_path / "out"))


def finish(trained, seconds, step="train"):
    trained.path.mkdir(parents=True, exist_ok=True)
    record = {"peer": trained.peer, "minutes": trained.minutes, "seconds": seconds, "peak_bytes": 2**30}
    write_json(trained.record_file(step), record)


def predict(out, trained):
    """Cubes one voxel beside the right place; fields that lead from one cube to the other one."""
    for index, name in enumerate(("test-000", "test-001")):
        write_volume(trained.segmentation_file(name), cube(5 + index + 1).astype(np.uint8), SPACING)
    for pair in out.given.about()["pairs"]["test"]:
        u = np.zeros((*SHAPE, 3), np.float32)
        u[..., 0] = -1 if pair["moving"] == "test-000" else 1
        if trained.peer == "monai":
            write_field(trained.field_file(pair["pair"]), u)
    finish(trained, {"segmentation": 1.5, "registration": 0.25}, "predict")


@pytest.mark.slow
def test_predictions_are_measured_as_by_hand(out, tmp_path, monkeypatch, capsys):
    for peer, minutes in (("monai", 2.0), ("nnunet", 4.0), ("nnunet", 2.0)):
        finish(out.given.trained(peer, minutes), 60 * minutes)
        curve = {"seconds": 60 * minutes, "step": 10, "segmentation": 0.5, "registration": 0.25}
        if peer == "monai":
            write_rows(out.given.trained(peer, minutes).curve_file, [curve])
        predict(out, out.given.trained(peer, minutes))
    results = tmp_path / "results"
    options = ["--name", "x", "--results", str(results)]
    monkeypatch.setattr(sys, "argv", ["joint_peers.py", "score", str(out.path), *options])
    monkeypatch.setattr(joint_peers, "use_two_cores", lambda: None)
    joint_peers.main()
    kept = read_json(results / "x.json")
    assert list(kept["methods"]) == ["deepatlas", "nnU-Net, 2 min", "nnU-Net, 4 min", "MONAI DeepAtlas, 2 min"]
    monai = kept["methods"]["MONAI DeepAtlas, 2 min"]
    assert monai["segmentation"]["dice"]["mean"] == 2 * 48 / (64 + 64)  # of 64 voxels, 16 stick out on each side
    assert monai["segmentation"]["hd95_mm"]["mean"] == SPACING[0]
    assert monai["registration"]["dice"]["mean"] == 1.0 and monai["registration"]["folds_percent"]["mean"] == 0.0
    assert (
        "registration" not in kept["methods"]["nnU-Net, 4 min"] and kept["methods"]["nnU-Net, 4 min"]["minutes"] == 4.0
    )
    assert {"machine", "commit", "versions", "run", "seed"} <= set(kept) and kept["labelled"] == 1
    rows = (results / "x.csv").read_text("utf-8").splitlines()
    assert rows[0] == "task,method,case,class,dice,hd95_mm,assd_mm,folds_percent,sdlogj"
    assert 'registration,"MONAI DeepAtlas, 2 min",f to g,cube,1,0,0,0,0' in rows
    assert len(rows) == 1 + (1 + 3 * 2) + (1 + 2)  # ours has one case of each task
    printed = capsys.readouterr().out
    assert "made_up (synthetic): 3 training scans of 12 x 10 x 8 voxels, 1 with a label map" in printed
    assert "| MONAI DeepAtlas, 2 min | 0.750 | 2.00 | 2.0 | 1.5 | 1.00 | 1.00 |" in printed
    assert "| MONAI DeepAtlas, 2 min | 1.000 | 0.00 | 0.000 | 0.000 | 2.0 | 0.25 | 1.00 | 1.00 |" in printed
    assert "| deepatlas | 0.500 | 4.00 | 7.0 |" in printed
    assert "| segmentation | MONAI DeepAtlas, 2 min | 0.500 | 2.0 | 1.5 | 0.75 | 0.750 |" in printed
    assert "| registration | MONAI DeepAtlas, 2 min | 0.250 | 2.0 | - | - | 0.200 |" in printed
    assert shown.markdown(kept) in printed and (results / "x.png").stat().st_size > 0
    monkeypatch.setattr(sys, "argv", ["joint_peers.py", "table", str(out.path), *options])
    joint_peers.main()
    assert shown.markdown(kept) in capsys.readouterr().out


def test_what_is_missing_is_said_in_one_line(out, tmp_path, monkeypatch):
    monkeypatch.setattr(joint_peers, "use_two_cores", lambda: None)
    finish(out.given.trained("monai", 2.0), 120.0)
    for step, folder, message in (
        ("score", out.path, "MONAI DeepAtlas, 2 min has not predicted"),
        ("score", tmp_path / "empty", "write them first"),
        ("train", tmp_path / "empty", "write them first"),
    ):
        monkeypatch.setattr(sys, "argv", ["joint_peers.py", step, str(folder)])
        with pytest.raises(SystemExit, match=message):
            joint_peers.main()


def test_a_training_that_is_finished_is_not_made_again(out, monkeypatch):
    called = []

    def peer_step(args, step, peer, minutes):
        called.append((step, peer, minutes))
        finish(out.given.trained(peer, minutes), 60 * minutes, step)

    monkeypatch.setattr(joint_peers, "_in_peers_environment", peer_step)
    args = joint_peers.parser().parse_args(["train", str(out.path)])
    finish(out.given.trained("nnunet", 20.0), 1200.0)
    joint_peers.train(args)
    assert called == [("train", "nnunet", 10.0), ("train", "monai", 10.0)]
    joint_peers.train(joint_peers.parser().parse_args(["train", str(out.path), "--peer", "monai", "--minutes", "0.5"]))
    assert called[2:] == [("train", "monai", 0.5)]
    for _ in range(2):
        joint_peers.predict(args)
    assert [call[1:] for call in called[3:]] == [("nnunet", 10.0), ("nnunet", 20.0), ("monai", 0.5), ("monai", 10.0)]


def test_the_scans_are_written_once(out, monkeypatch):
    monkeypatch.setattr(write, "dataset_of_run", None)
    write.write(Path("made_up"), out)
    with pytest.raises(DataError, match="holds the scans of made_up"):
        write.write(Path("another"), out)


def test_the_peers_are_pinned():
    pinned = joint_peers.REQUIREMENTS.read_text("utf-8")
    assert all(f"\n{package}==" in pinned for package in ("nnunetv2", "monai", "torch", "nibabel", "scipy"))
    assert set(joint_peers.ROWS) == set(given.PEERS)


@pytest.mark.slow
def test_monai_learns_and_predicts(out):
    python = Path(os.environ.get("DEEPATLAS_JOINT_PEERS_PYTHON", joint_peers.ENVIRONMENT / "bin" / "python"))
    if not python.exists():
        pytest.skip("the environment of the peers is not there; benchmarks/joint_peers.py makes it")
    for scans in SUBJECTS:  # larger scans: the networks halve them three times
        for path in out.given.path.rglob(f"{scans}-*.nii.gz"):
            write_volume(path, np.pad(read_volume(path), [(2, 2), (3, 3), (4, 4)]), SPACING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    for step in ("train", "predict"):
        command = [str(python), "-m", "joint.run", step, str(out.given.path), "monai", "0.05"]
        subprocess.run(command, env=environment, cwd=ROOT / "benchmarks", capture_output=True, check=True)
    trained = out.given.trained("monai", 0.05)
    assert trained.record("train")["seconds"] >= 3.0 and trained.record("train")["steps"] > 0
    seconds = [float(line.split(",")[0]) for line in trained.curve_file.read_text("utf-8").splitlines()[1:]]
    assert seconds and seconds == sorted(seconds)
    assert read_volume(trained.segmentation_file("test-000")).shape == (16, 16, 16)
    assert json.loads(trained.record_file("predict").read_text("utf-8"))["seconds"]["registration"] > 0
    with np.load(trained.field_file("test-000")) as field:
        assert field["u"].shape == (16, 16, 16, 3)
