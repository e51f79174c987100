"""Pictures of pseudo masks: what they show, against the masks themselves."""

import contextlib
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from deepatlas_tf.evaluation import pseudo_figure
from deepatlas_tf.evaluation.plane import Plane
from deepatlas_tf.evaluation.pseudo_figure import Masked, draw_pseudo, pseudo_masks, pseudo_quality
from deepatlas_tf.keras_stack import tf
from deepatlas_tf.phantoms.knee import CLASS_NAMES, knee
from deepatlas_tf.runs.files import write_rows
from deepatlas_tf.runs.folder import RunFolder
from deepatlas_tf.streams.pseudo_masks import encode, mask_path

GRIDS = {"2D": ((64, 48), (2.0, 2.5)), "3D": ((24, 28, 24), (4.4, 4.7, 4.4))}
DATA = {"dataset": "phantom_knee"}
STAGE = {"method": "segmentation", "turns": {}, "weights": {}, "steps": 9, "epochs": 3}


class MadeUp:
    """Five synthetic knees in the shape of a data set."""

    class_names = CLASS_NAMES
    subjects = {"train": tuple(f"knee{i}" for i in range(5))}

    def __init__(self, shape, spacing):
        self.spacing = spacing
        self.knees = [knee(seed, shape, spacing) for seed in range(5)]

    def samples(self, split):
        images = np.stack([image.reshape(*image.shape[: len(self.spacing)], 1) for image, _ in self.knees])
        return tf.data.Dataset.from_tensor_slices({"image": images, "subject": np.array(self.subjects[split])})

    def mask(self, index):
        """The label map, blurred to probabilities by noise."""
        label = self.knees[index][1]
        noise = np.random.default_rng(index).uniform(0, 1.5, (*label.shape, len(CLASS_NAMES)))
        probabilities = np.eye(len(CLASS_NAMES))[label] * 2 + noise
        return encode(probabilities / probabilities.sum(-1, keepdims=True))


def write_masks(workdir, dataset, stages, masked, dice=0.7):
    for stage in stages:
        folder = workdir / stage / "pseudo"
        rows = [{"subject": "knee0", "split": "validation", "class": "femur"}]
        write_rows(folder / "quality.csv", [{**rows[0], "confidence": 0.8, "entropy": 0.4, "dice": dice}])
        for index in masked:
            np.savez_compressed(mask_path(folder, f"knee{index}"), soft_label=dataset.mask(index))
    settings = {
        "experiment": {"data": DATA, "stages": [{"name": name, **STAGE} for name in ("segmentation_baseline", *stages)]}
    }
    (workdir / "experiment.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("dimension", GRIDS)
def test_the_masks_of_the_last_round_are_drawn(dimension, tmp_path, monkeypatch):
    dataset, shown = MadeUp(*GRIDS[dimension]), []
    write_masks(tmp_path, dataset, ("uniseg_reg_1", "uniseg_reg"), masked=(1, 2, 4))

    def keep(path, subjects, class_names, spacing, title):
        shown.extend([title, *(subject.name for subject in subjects)])
        np.testing.assert_array_equal(subjects[-1].mask, dataset.mask(4))
        np.testing.assert_array_equal(subjects[-1].image.ravel(), dataset.knees[4][0].ravel())
        pseudo_masks(path, subjects, class_names, spacing, title)

    monkeypatch.setattr(pseudo_figure, "pseudo_masks", keep)
    paths = draw_pseudo(RunFolder(tmp_path), dataset, "knees, synthetic")
    assert paths == [tmp_path / "figures" / f"pseudo_{name}.png" for name in ("quality", "masks")]
    assert shown == ["Pseudo masks before uniseg reg (knees, synthetic, training split)", "knee1", "knee2", "knee4"]
    for path in paths:
        height, width, _ = imread(path).shape
        assert height > 300 and width > 600


def test_what_is_not_there_is_not_drawn(tmp_path):
    dataset = MadeUp(*GRIDS["2D"])
    write_masks(tmp_path, dataset, ("uniseg_reg",), masked=())  # every training subject has its label
    assert [path.stem for path in draw_pseudo(RunFolder(tmp_path), dataset, "knees")] == ["pseudo_quality"]
    write_masks(tmp_path, dataset, ("uniseg_reg",), masked=(1,), dice=float("nan"))  # no validation subject
    assert [path.stem for path in draw_pseudo(RunFolder(tmp_path), dataset, "knees")] == ["pseudo_masks"]
    write_masks(tmp_path, dataset, (), masked=())
    assert draw_pseudo(RunFolder(tmp_path), dataset, "knees") == []


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, in place of files."""
    kept = []

    @contextlib.contextmanager
    def keep(path, width, height):
        kept.append(Figure(figsize=(width, height), layout="constrained"))
        yield kept[-1]

    monkeypatch.setattr(pseudo_figure, "figure_file", keep)
    return kept


@pytest.mark.parametrize(("n", "titles"), [(1, ["validation subjects"]), (3, ["", "validation subjects, last round"])])
def test_one_round_is_no_curve(n, titles, figures, tmp_path):
    row = {"subject": "knee0", "split": "validation", "class": "femur", "confidence": 0.8, "dice": 0.7}
    pseudo_quality(tmp_path / "x.png", {f"round{i}": [row] for i in range(n)}, "t")
    axes = figures[0].axes
    assert [axis.get_title() for axis in axes] == titles
    assert [line.get_xydata().tolist() for line in axes[-1].lines] == [[[0.8, 0.7]]]


@pytest.mark.parametrize("dimension", GRIDS)
def test_the_map_is_the_probability_of_the_most_probable_class(dimension, tmp_path, figures):
    dataset = MadeUp(*GRIDS[dimension])
    subjects = [
        Masked(f"knee{i}", dataset.knees[i][0].reshape(*GRIDS[dimension][0], 1), dataset.mask(i)) for i in (0, 3)
    ]
    pseudo_masks(tmp_path / "x.png", subjects, CLASS_NAMES[1:], dataset.spacing, "t")
    axes = figures[0].axes[:6]
    assert [axis.get_title() for axis in axes[::3]] == ["knee0", "knee3"]
    plane = Plane.showing_most(subjects[0].mask.argmax(-1), dataset.spacing)
    for subject, (image, contours, confidence) in zip(subjects, (axes[:3], axes[3:]), strict=True):
        np.testing.assert_allclose(image.images[0].get_array(), plane.cut(subject.image)[..., 0].T)
        expected = plane.cut(subject.mask).astype(float).max(axis=-1).T / 255
        np.testing.assert_allclose(confidence.images[0].get_array(), expected, atol=1e-6)
        assert 0.25 < expected.min() < expected.max() < 0.95
        assert len(contours.collections) + len(confidence.collections) >= 2 and not image.collections
