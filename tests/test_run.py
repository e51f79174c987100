"""Whole tiny runs on data with few labels or none."""

import csv
import dataclasses
import math

import pytest

from deepatlas_tf import run
from deepatlas_tf.cli import main
from deepatlas_tf.datasets.load import DataSet, load_dataset
from deepatlas_tf.streams.pairs import hide_labels

SLICES = ["--set", "data.shape=(16, 16)", "--set", "data.spacing=(7.5, 7.5)"]
MEASURES = ("dice", "hd95_mm", "assd_mm", "hausdorff_mm")


@dataclasses.dataclass(frozen=True)
class SomeLabelled(DataSet):
    """A data set of which only the subjects in ``labelled`` have label maps, whatever the records hold."""

    def samples(self, split):
        return hide_labels(super().samples(split), self.labelled[split])


def keep_labels(dataset, kept) -> SomeLabelled:
    """The data set with the label maps of the subjects for which ``kept(split, subject)``."""
    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    labelled = {split: tuple(s for s in ids if kept(split, s)) for split, ids in dataset.labelled.items()}
    return SomeLabelled(**fields | {"labelled": labelled})


def _rows(work, task):
    with (work / "evaluation" / f"{task}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_registration_without_labels(tmp_path, capsys):
    arguments = ["train", "--tiny", "--labels", "0", "--method", "voxelmorph", *SLICES]
    assert main([*arguments, "--data-dir", str(tmp_path / "data"), "--workdir", str(tmp_path / "work")]) == 0
    printed = capsys.readouterr().out
    assert "training subjects, 0 with a label map" in printed and "\n16 x 16 voxels of 7.5 x 7.5 mm, " in printed
    assert "no label map is used: left out registration_weak\n" in printed
    methods = {row["method"] for row in _rows(tmp_path / "work", "registration")}
    assert methods == {"identity", "registration_unsupervised"}
    assert {path.parent.name for path in (tmp_path / "work").glob("*/nets")} == {"registration_unsupervised"}


def test_nothing_begins_where_every_stage_needs_labels(tmp_path, capsys):
    arguments = ["train", "--tiny", "--labels", "0", "--method", "segmentation", *SLICES]
    assert main([*arguments, "--data-dir", str(tmp_path / "data"), "--workdir", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: no training subject has a label map") and "\n" not in error
    assert not (tmp_path / "work").exists()


@pytest.mark.long
def test_data_without_a_single_label(tmp_path, capsys, monkeypatch):
    """The fields alone are measured, and drawn."""
    monkeypatch.setattr(run, "load_dataset", lambda *a, **k: keep_labels(load_dataset(*a, **k), lambda *_: False))
    work = tmp_path / "work"
    arguments = ["train", "--tiny", "--method", "deepatlas", "--set", "data.labels=None", *SLICES]
    assert main([*arguments, "--data-dir", str(tmp_path / "data"), "--workdir", str(work)]) == 0
    printed = capsys.readouterr().out
    assert "left out segmentation_baseline, registration_weak, semi_deepatlas, deepatlas\n" in printed
    assert "too few label maps to measure more than the folds of fields: the last networks are kept\n" in printed
    assert "no test subject has a label map" in printed
    assert "test split (2 subjects without a label map)" in printed
    rows = _rows(work, "registration")
    assert [row["method"] for row in rows] == ["identity", "registration_unsupervised"] * 2
    assert all(row["class"] == "" and math.isnan(float(row[name])) for row in rows for name in MEASURES)
    assert all(math.isfinite(float(row["folds_percent"])) for row in rows)
    assert (work / "evaluation" / "segmentation.csv").read_text() == ""
    figures = {path.stem for path in (work / "figures").iterdir()}
    assert figures == {"training_curves", "registration", "warped_grid", "jacobian"}


@pytest.mark.long
def test_two_domains_of_which_one_has_no_label(tmp_path, capsys, monkeypatch):
    """The setting of seg_guided: the second domain has no label map, in validation and test neither."""
    domains, work = {}, tmp_path / "work"

    def load(*args, **kwargs):
        whole = load_dataset(*args, **kwargs)
        domains.update(whole.domains)
        return keep_labels(whole, lambda split, subject: domains[subject] == "xray")

    monkeypatch.setattr(run, "load_dataset", load)
    arguments = ["train", "--tiny", "--dataset", "phantom_knee/xray_dxa", "--method", "seg_guided", *SLICES]
    assert main([*arguments, "--data-dir", str(tmp_path / "data"), "--workdir", str(work)]) == 0
    printed = capsys.readouterr().out
    for split in ("validation", "test"):
        assert printed.count(f"no {split} subject of the domain 'dxa' has a label map") == 1
    assert {domains[row["subject"]] for row in _rows(work, "segmentation")} == {"xray"}
    between = [row for row in _rows(work, "registration") if row["method"] == "seg_guided (xray to dxa)"]
    assert between and all(row["class"] == "" and domains[row["fixed"]] == "dxa" for row in between)
    assert {"segmentation", "registration", "dice_registration"} <= {p.stem for p in (work / "figures").iterdir()}
