import csv
import json
import math

import pytest

from deepatlas_tf.evaluation.summary import (
    comparison_table,
    markdown_table,
    method_order,
    remarks,
    summarise_rows,
)
from deepatlas_tf.runs.files import read_rows, write_rows

NAN = float("nan")


def segmentation_row(method, subject, name, dice, distance):
    return {"method": method, "subject": subject, "class": name, "dice": dice, "hd95_mm": distance, "assd_mm": distance}


def registration_rows(method, pair, dices, folds):
    start = {"method": method, "moving": pair[0], "fixed": pair[1]}
    end = {"hd95_mm": 2.0, "assd_mm": 1.0, "folds_percent": folds, "sdlogj": folds / 10, "hausdorff_mm": 5.0}
    return [{**start, "class": name, "dice": value, **end} for name, value in zip(("bone", "fat"), dices, strict=True)]


@pytest.fixture
def rows():
    segmentation = [
        segmentation_row("segmentation_baseline", "001", "bone", 0.9, 1.0),
        segmentation_row("segmentation_baseline", "001", "fat", NAN, NAN),
        segmentation_row("segmentation_baseline", "002", "bone", 0.7, 3.0),
        segmentation_row("segmentation_baseline", "002", "fat", 0.5, NAN),
    ]
    registration = [
        *registration_rows("deepatlas", ("001", "002"), (0.8, 0.6), 0.1),
        *registration_rows("deepatlas", ("002", "001"), (0.6, NAN), 0.3),
        *registration_rows("identity", ("001", "002"), (0.5, 0.25), 0.0),
    ]
    return segmentation, registration


def test_summary_by_hand(rows):
    summary = summarise_rows(*rows, ["bone", "fat"])
    assert list(summary) == ["identity", "segmentation_baseline", "deepatlas"]
    assert set(summary["segmentation_baseline"]) == {"segmentation"} and set(summary["identity"]) == {"registration"}
    baseline = summary["segmentation_baseline"]["segmentation"]
    assert baseline["dice"]["per_class"] == pytest.approx({"bone": 0.8, "fat": 0.5})
    assert baseline["dice"]["mean"] == pytest.approx(0.65)  # of the classes, not of the four rows
    assert baseline["hd95_mm"] == {"mean": 2.0, "per_class": {"bone": 2.0, "fat": None}}
    joint = summary["deepatlas"]["registration"]
    assert joint["dice"]["per_class"] == pytest.approx({"bone": 0.7, "fat": 0.6})
    assert joint["folds_percent"] == pytest.approx({"mean": 0.2})
    assert joint["sdlogj"] == pytest.approx({"mean": 0.02})
    assert "folds_percent" not in baseline
    json.dumps(summary, allow_nan=False)


def test_rows_survive_the_file(rows, tmp_path):
    path = tmp_path / "evaluation" / "registration.csv"
    rows[1][0]["hd95_mm"] = 1 / 3
    write_rows(path, rows[1])
    text = path.read_text()
    assert text.startswith("method,moving,fixed,class,dice,hd95_mm,assd_mm,folds_percent,sdlogj,hausdorff_mm\n")
    assert ",0.333333," in text
    back = read_rows(path)
    assert back[0]["moving"] == "001" and back[0]["hd95_mm"] == 0.333333
    assert math.isnan(back[3]["dice"]) and len(back) == len(rows[1])
    assert [p.name for p in path.parent.iterdir()] == ["registration.csv"]


def test_no_rows(tmp_path):
    write_rows(tmp_path / "segmentation.csv", [])
    assert read_rows(tmp_path / "segmentation.csv") == []
    assert summarise_rows([], [], ["bone"]) == {}


def test_a_failed_write_leaves_the_old_file(rows, tmp_path):
    path = tmp_path / "segmentation.csv"
    write_rows(path, rows[0])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="fieldnames"):
        write_rows(path, [*rows[0], {"other": 1}])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_method_order():
    given = ["deepatlas", "b", "registration_weak", "a", "segmentation_baseline", "b", "identity"]
    assert method_order(given) == ["identity", "segmentation_baseline", "registration_weak", "b", "a", "deepatlas"]
    refined = [
        "deepatlas",
        "b (t1 to t2)",
        "deepatlas_anatomy",
        "deepatlas_anatomy_templates",
        "identity",
        "b_instance (t1 to t2)",
        "registration_weak",
        "b_flips",
    ]
    assert method_order([*refined, "registration_weak_atlases", "registration_weak_instance"]) == [
        "identity",
        "registration_weak",
        "registration_weak_atlases",
        "registration_weak_instance",
        "b (t1 to t2)",
        "b_instance (t1 to t2)",
        "b_flips",
        "deepatlas",
        "deepatlas_anatomy",
        "deepatlas_anatomy_templates",
    ]


def test_table(rows):
    lines = comparison_table(summarise_rows(*rows, ["bone", "fat"])).splitlines()
    assert lines[0].split("  ")[0] == "method" and set(lines[1]) == {"-"}
    assert lines[2].split() == ["identity", "-", "-", "-", "0.375", "2.00", "5.00", "0.000"]
    assert lines[3].split() == ["segmentation_baseline", "0.650", "2.00", "-", "-", "-", "-", "-"]
    assert lines[4].split() == ["deepatlas", "-", "-", "-", "0.650", "2.00", "5.00", "0.200"]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_markdown_table(rows):
    table = list(csv.reader(markdown_table(summarise_rows(*rows, ["bone", "fat"])).splitlines(), delimiter="|"))
    assert [cell.strip() for cell in table[0][1:3]] == ["method", "segmentation Dice"]
    assert [cell.strip() for cell in table[4][1:-1]] == ["deepatlas", "-", "-", "-", "0.650", "2.00", "5.00", "0.200"]
    assert {len(row) for row in table} == {10}


@pytest.mark.parametrize("domains", ["", " (t1 to t2)"])
def test_what_must_not_be_overlooked_is_said(domains):
    rows = [
        *registration_rows(f"identity{domains}", ("001", "002"), (0.5, 0.5), 0.0),
        *registration_rows(f"worse{domains}", ("001", "002"), (0.4, 0.5), 0.0),
        *registration_rows(f"folded{domains}", ("001", "002"), (0.9, 0.5), 5.1),
        *registration_rows(f"good{domains}", ("001", "002"), (0.5, 0.5), 5.0),
    ]
    assert remarks(summarise_rows([], rows, ("bone", "fat"))) == [
        f"worse{domains}: registration Dice 0.450 is below the 0.500 of no registration at all.",
        f"folded{domains}: 5.1 % of the voxels fold, its deformations are not to be used.",
    ]


def test_without_numbers_there_is_nothing_to_say():
    rows = registration_rows("deepatlas", ("001", "002"), (NAN, NAN), NAN)
    assert remarks(summarise_rows([], rows, ("bone", "fat"))) == [] == remarks({"segmentation_baseline": {}})


def test_a_class_that_is_never_predicted_is_named():
    """Not one that is predicted elsewhere, nor one that no label map has."""
    nan = float("nan")
    found = {"fat": (0.0, nan), "bone": (0.0, 9.0), "skin": (nan, nan), "ear": (0.5, 1.0)}
    rows = [{"method": "a", "subject": "s", "class": n, "dice": d, "assd_mm": m} for n, (d, m) in found.items()]
    assert remarks(summarise_rows(rows, [], list(found))) == ["a: fat is never predicted."]
