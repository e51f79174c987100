import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from deepatlas_tf.evaluation import figures
from deepatlas_tf.evaluation.draw import draw, draw_training
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.phantoms.knee import CLASS_NAMES, knee
from deepatlas_tf.runs.predict import Predictors

REGISTRATION = ("dice_registration", "registration", "warped_grid", "jacobian")
SEGMENTATION = ("dice_segmentation", "segmentation")
DATA = {"dataset": "phantom_knee"}
STAGE = {"method": "segmentation", "turns": {}, "weights": {}, "steps": 9, "epochs": 3}


def made_up_dataset(shape, spacing, n=4):
    """Synthetic knees in the shape of a data set."""
    subjects = tuple(f"knee{i}" for i in range(n))
    knees = [knee(seed, shape, spacing) for seed in range(n)]
    arrays = {
        "image": np.stack([image for image, _ in knees]).reshape(n, *shape, 1),
        "label": np.stack([label for _, label in knees]).astype(np.int32),
        "label_weight": np.ones((n, len(CLASS_NAMES)), np.float32),
        "subject": np.array(subjects),
    }
    return SimpleNamespace(
        name="phantom_knee",
        class_names=CLASS_NAMES,
        spacing=spacing,
        synthetic=True,
        labelled={"test": subjects},
        domains=dict.fromkeys(subjects, ""),
        samples=lambda split: tf.data.Dataset.from_tensor_slices(arrays),
    )


def made_up_field(scale, seed=0):
    def register(moving, fixed):
        shape = fixed.shape[:-1]
        noise = np.random.RandomState(seed).randn(*shape, len(shape))
        smooth = ndimage.gaussian_filter(noise, (*(4,) * len(shape), 0))
        return (scale * smooth / smooth.std()).astype(np.float32)

    return register


def made_up_evaluation(labellers, registrars, subjects):
    rng = np.random.RandomState(0)
    quality = {name: 0.5 + 0.1 * i for i, name in enumerate([*registrars, *labellers])}
    segmentation, registration = [], []

    def some_dice(method):
        return float(np.clip(quality[method] + 0.05 * rng.randn(), 0, 1))

    for subject in subjects:
        for name in CLASS_NAMES[1:]:
            segmentation += [{"method": m, "subject": subject, "class": name, "dice": some_dice(m)} for m in labellers]
            registration += [
                {"method": m, "moving": subject, "fixed": "x", "class": name, "dice": some_dice(m)} for m in registrars
            ]
    return SimpleNamespace(
        predictors=Predictors(labellers, registrars, dict.fromkeys([*labellers, *registrars], (None, None))),
        segmentation_rows=segmentation,
        registration_rows=registration,
    )


def made_up_run(workdir):
    stages = {"registration_unsupervised": ["registration"], "deepatlas": ["registration", "segmentation"]}
    for stage, turns in stages.items():
        (workdir / stage).mkdir(parents=True)
        rows = [
            {"epoch": e, "step": 50 * (e + 1), "seconds": 1.0, "val_registration_dice": 0.8 - 0.3 * 0.9**e}
            | {f"{turn}/{term}": 0.9**e + 0.1 for turn in turns for term in ("loss", "anatomy", "similarity")}
            | ({"val_segmentation_dice": 0.9 - 0.3 * 0.9**e} if "segmentation" in turns else {})
            | {"val_folds_percent": 0.1 * e, **{f"learning_rate/{turn}": 1e-3 for turn in turns}}
            for e in range(12)
        ]
        (workdir / stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"experiment": {"data": DATA, "stages": [{"name": name, **STAGE} for name in [*stages, "not_started"]]}}
    (workdir / "experiment.json").write_text(json.dumps(settings))


def threshold(image):
    return (image[..., 0] > 0.6).astype(np.int32)


@pytest.mark.long
@pytest.mark.parametrize(
    ("shape", "spacing"), [((64, 48), (2.0, 2.5)), ((32, 40, 32), (3.3, 3.3, 3.3))], ids=["2D", "3D"]
)
def test_a_run_is_drawn(tmp_path, shape, spacing):
    made_up_run(tmp_path)
    dataset = made_up_dataset(shape, spacing)
    labellers = {"segmentation_baseline": threshold, "deepatlas": threshold}
    registrars = {
        "identity": made_up_field(0),
        "registration_unsupervised": made_up_field(1),
        "deepatlas": made_up_field(3),
    }
    evaluation = made_up_evaluation(labellers, registrars, dataset.labelled["test"])
    paths = draw(tmp_path, evaluation, dataset)
    names = ("training_curves", *SEGMENTATION, *REGISTRATION)
    assert paths == [tmp_path / "figures" / f"{name}.png" for name in names]
    assert sorted(tmp_path.glob("figures/*")) == sorted(paths)
    for path in paths:
        height, width, _ = imread(path).shape
        assert height > 300 and width > 600


@pytest.mark.slow
def test_what_was_not_trained_is_not_drawn(tmp_path):
    (tmp_path / "experiment.json").write_text(
        json.dumps({"experiment": {"data": DATA, "stages": [{"name": "not_started", **STAGE}]}})
    )
    dataset = made_up_dataset((32, 24), (2.0, 2.0))
    subjects, no_field = dataset.labelled["test"], {"identity": made_up_field(0)}
    only_segmentation = made_up_evaluation({"segmentation_baseline": threshold}, no_field, subjects)
    assert [path.stem for path in draw(tmp_path, only_segmentation, dataset)] == list(SEGMENTATION)
    only_registration = made_up_evaluation({}, no_field | {"registration_weak": made_up_field(1)}, subjects)
    assert [path.stem for path in draw(tmp_path, only_registration, dataset)] == list(REGISTRATION)


def test_one_subject_has_no_pairs(tmp_path):
    made_up_run(tmp_path)
    dataset = made_up_dataset((32, 24), (2.0, 2.0), n=1)
    registrars = {"identity": made_up_field(0), "deepatlas": made_up_field(1)}
    evaluation = made_up_evaluation({}, registrars, dataset.labelled["test"])
    assert [path.stem for path in draw(tmp_path, evaluation, dataset)] == ["training_curves"]


@pytest.mark.slow
@pytest.mark.parametrize("n_second", [0, 3])
def test_subjects_sorted_by_domain(tmp_path, n_second, monkeypatch):
    """Three of the first domain come first; of the second there may be none, and then the first one is shown."""
    made_up_run(tmp_path)
    dataset = made_up_dataset((32, 24), (2.0, 2.0), n=3 + n_second)
    dataset.subjects = dataset.labelled
    dataset.domains = {f"knee{i}": "t1" if i < 3 else "t2" for i in range(6)}
    registrars = {name: made_up_field(1) for name in ("identity", "registration_a", "registration_mi", "seg_guided")}
    labellers = {"segmentation_a": threshold, "domain_adaptation": threshold}
    evaluation = made_up_evaluation(labellers, registrars, dataset.labelled["test"])
    evaluation.predictors.domains.update(dict.fromkeys([*labellers, *registrars], ("t1", "t2")))
    evaluation.predictors.domains.update({"registration_a": ("t1", "t1"), "segmentation_a": ("t1", "t1")})
    shown = {}
    for name in ("registration_panel", "segmentation_panel", "warped_grid"):
        monkeypatch.setattr(f"deepatlas_tf.evaluation.panels.{name}", lambda *a, name=name: shown.update({name: a}))
    paths = draw(tmp_path, evaluation, dataset)
    assert [path.stem for path in paths] == ["training_curves", *SEGMENTATION, *REGISTRATION]
    assert [subject.name for subject in shown["segmentation_panel"][1]] == (
        ["knee0", "knee1", "knee3", "knee4"] if n_second else ["knee0", "knee1"]
    )
    pairs = [pair.name for pair in shown["registration_panel"][1]]
    assert pairs == [f"knee{i}\nonto knee{3 + i if n_second else (i + 1) % 3}" for i in range(3)]
    assert list(shown["warped_grid"][3]) == (["registration_mi", "seg_guided"] if n_second else ["registration_a"])


@pytest.mark.slow
def test_a_registration_without_labels_has_no_boxes(tmp_path):
    made_up_run(tmp_path)
    dataset = made_up_dataset((32, 24), (2.0, 2.0))
    dataset.subjects, dataset.labelled = dataset.labelled, {"test": ()}
    evaluation = made_up_evaluation({"deepatlas": threshold}, {"deepatlas": made_up_field(1)}, ())
    evaluation.registration_rows = [{"method": "deepatlas", "class": "", "dice": float("nan")}]
    assert [path.stem for path in draw(tmp_path, evaluation, dataset)] == ["training_curves", *REGISTRATION[1:]]


def test_curves_begin_with_what_the_stage_started_from(tmp_path, monkeypatch):
    made_up_run(tmp_path)
    (tmp_path / "deepatlas" / "start.json").write_text('{"val_registration_dice": 0.45}')
    shown = {}
    monkeypatch.setattr(figures, "training_curves", lambda path, rows, title: shown.update(rows))
    draw_training(tmp_path, made_up_dataset((64, 48), (2.0, 2.5)))
    assert shown["deepatlas"][-1] == {"step": 0, "val_registration_dice": 0.45} and len(shown["deepatlas"]) == 13
    assert len(shown["registration_unsupervised"]) == 12  # whose network was new
