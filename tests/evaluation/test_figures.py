import contextlib

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from deepatlas_tf.evaluation import figures

NAN = float("nan")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, instead of files."""
    kept = []

    @contextlib.contextmanager
    def keep(path, width, height):
        kept.append(Figure(figsize=(width, height), layout="constrained"))
        yield kept[-1]

    monkeypatch.setattr(figures, "figure_file", keep)
    return kept


def test_curves_show_the_rows(drawn):
    rows = [
        {"epoch": 0, "step": 10, "registration/loss": 3.0, "learning_rate/registration": 1e-3, "seconds": 2.0},
        {"epoch": 1, "step": 20, "registration/loss": 2.0, "val_segmentation_dice": 0.6, "val_registration_dice": 0.7},
        {"epoch": 2, "step": 30, "registration/loss": 1.0, "val_segmentation_dice": 0.8, "val_folds_percent": 0.1},
        {"step": 0, "val_segmentation_dice": 0.5},
    ]
    figures.training_curves("x.png", {"deepatlas": rows, "baseline": rows[:1]}, "Training (made up, synthetic)")
    (figure,) = drawn
    assert figure.get_suptitle() == "Training (made up, synthetic)"
    axes = {axis.get_title(): axis for axis in figure.axes if axis.axison}
    dice = {task: axes.pop(f"validation: {task} Dice") for task in ("segmentation", "registration")}
    assert set(axes) == {"registration: loss", "validation: folds (%)"}
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes["registration: loss"].lines}
    assert lines == {"baseline": [[10, 3]], "DeepAtlas": [[10, 3], [20, 2], [30, 1]]}
    shown = {task: [line.get_xydata().tolist() for line in axis.lines] for task, axis in dice.items()}
    assert shown == {"segmentation": [[[0, 0.5], [20, 0.6], [30, 0.8]]], "registration": [[[20, 0.7]]]}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "DeepAtlas"]


def test_names_as_they_are_written():
    assert figures.spoken("deepatlas_atlases (t1)") == "DeepAtlas with atlases (t1)"
    assert figures.spoken("deepatlas_templates") == "DeepAtlas with templates"
    assert figures.spoken("registration_weak_instance (t1 to t2)") == "registration weak, refined (t1 to t2)"
    assert figures.spoken("semi_deepatlas_anatomy") == "semi DeepAtlas, refined with anatomy"
    assert figures.spoken("deepatlas_anatomy_templates") == "DeepAtlas, refined with anatomy and templates"
    assert figures.spoken("deepatlas_flips") == "DeepAtlas with flips"
    assert figures.spoken("semi_deepatlas") == "semi DeepAtlas"


def row(method, subject, name, dice):
    return {"method": method, "subject": subject, "class": name, "dice": dice}


def medians(axis):
    """Height of each median line by its position; the medians are the only thick black lines."""
    lines = [line for line in axis.lines if line.get_color() == "black" and line.get_linewidth() == 1.3]
    return {round(float(np.mean(line.get_xdata())), 6): round(float(line.get_ydata()[0]), 6) for line in lines}


def test_boxes_show_the_rows(drawn):
    rows = [
        *(row("deepatlas", str(i), "bone", x) for i, x in enumerate((0.7, 0.8, 0.9))),
        *(row("deepatlas", str(i), "fat", x) for i, x in enumerate((0.5, NAN, 0.7))),
        *(row("segmentation_baseline", str(i), "bone", 0.4) for i in range(3)),
        *(row("segmentation_baseline", str(i), "fat", NAN) for i in range(3)),
    ]
    figures.dice_boxplots("x.png", rows, ["bone", "fat"], "Dice")
    (axis,) = drawn[0].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["mean", "bone", "fat"]
    # The baseline is left, DeepAtlas right of each group's centre; a class without any value has no box.
    # DeepAtlas' means of the subjects are .6, .8 (one class only) and .8
    assert medians(axis) == {-0.2: 0.4, 0.2: 0.8, 0.8: 0.4, 1.2: 0.8, 2.2: 0.6}
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["segmentation baseline", "DeepAtlas"]
    bottom, top = axis.get_ylim()
    assert bottom <= 0.4 and top == 1


def test_one_class_needs_no_mean(drawn):
    figures.dice_boxplots("x.png", [row("deepatlas", "1", "bone", 0.8)], ["bone"], "Dice")
    assert medians(drawn[0].axes[0]) == {0: 0.8}


def test_nothing_defined_is_still_a_figure(drawn):
    figures.dice_boxplots("x.png", [row("deepatlas", "1", "bone", NAN)], ["bone"], "Dice")
    assert medians(drawn[0].axes[0]) == {}


def test_methods_keep_their_colours():
    few, many = ["deepatlas", "brainstorm"], ["identity", "brainstorm", "segmentation_baseline", "other", "deepatlas"]
    few, many = figures.method_colours(few), figures.method_colours(many)
    assert all(few[name] == many[name] for name in few)
    assert len(set(many.values())) == 5
    rounds = [f"uniseg_reg_{i}" for i in range(12)]
    assert len(set(figures.method_colours(["segmentation_baseline", *rounds]).values())) == 13


def test_file_and_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    path = tmp_path / "figures" / "one.png"
    with figures.figure_file(path, 3, 2) as figure:
        figure.add_subplot().plot([1, 2])
    assert imread(path).shape[:2] == (2 * figures.DPI, 3 * figures.DPI)
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(RuntimeError), figures.figure_file(tmp_path / "two.png", 3, 2):
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*.png")] == ["one.png"]


@pytest.mark.parametrize("name", [r"$\frac{$x", "a$b$c", "100 % <b>", "\\"])
def test_any_name_is_drawn_as_text(name, tmp_path):
    rows = [{"method": "deepatlas", "subject": "s", "class": name, "dice": 0.5}]
    path = tmp_path / "boxes.png"
    figures.dice_boxplots(path, rows, [name], f"Dice of {name}")
    assert imread(path).std() > 0.01
