"""``deepatlas data validate`` as a user meets it: files, report, exit status, page."""

import base64
import csv
import errno
import functools
import importlib
import io
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from deepatlas_tf.cli import main
from deepatlas_tf.datasets import load
from deepatlas_tf.datasets.listing import read_listing
from deepatlas_tf.datasets.splits import split_listed

PROTOS = {
    "schema": schema_pb2.Schema,
    "stats": statistics_pb2.DatasetFeatureStatisticsList,
    "anomalies": anomalies_pb2.Anomalies,
}


def call(*arguments) -> int:
    return main(["data", "validate", *map(str, arguments)])


def proto(folder, name):
    return text_format.Parse((folder / f"{name}.pbtxt").read_text(encoding="utf-8"), PROTOS[name]())


def test_a_clean_set_is_reported_and_frozen(new_cohort, tmp_path, capsys):
    out = tmp_path / "out"
    assert call(new_cohort(8).save(), "-o", out) == 0
    text = capsys.readouterr().out
    assert "8 subjects, 8 with a label map, 3 classes" in text and "no anomalies" in text
    assert re.search(r"s03 +validation +20x16x12 +1x1.5x2 +RAS", text)
    assert (out / "report.txt").read_text() in text
    found = {name: proto(out, name) for name in PROTOS}
    assert found["stats"].datasets[0].num_examples == 8 and not found["anomalies"].anomaly_info
    assert {"subject", "spacing_z", "labels", "volume_ml/left_ball"} <= {f.name for f in found["schema"].feature}
    with (out / "subjects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == [f"s{i:02d}" for i in range(8)]
    assert rows[0]["labels"] == "left_ball;right_ball;midline" and len({row["image_sha256"] for row in rows}) == 8


@pytest.mark.parametrize(
    ("n", "unlabelled", "lines"),
    [
        (
            2,
            3,
            "splits: train 5 (2 with a label map), validation 0, test 0; "
            "segmentation and registration can be trained\n"
            "too few label maps to measure: the last networks are kept; train --folds 2 tests each labelled scan once",
        ),
        (
            8,
            1,
            "splits: train 5 (4 with a label map), validation 2 (2 with a label map), test 2 (2 with a label map); seg",
        ),
        (0, 3, "registration can be trained, segmentation takes a label map\ntoo few label maps to measure: the last"),
        (1, 0, "segmentation can be trained, registration takes two scans\ntoo few label maps to measure: the last"),
    ],
)
def test_the_report_begins_with_what_training_would_do(new_cohort, tmp_path, capsys, n, unlabelled, lines):
    """As ``train`` splits the list, with a column of splits that says nothing."""
    cohort = new_cohort()
    for i in range(n + unlabelled):
        cohort.add(f"s{i:02d}", split="", **({} if i < n else {"label": None}))
    path = cohort.save()
    assert call(path, "-o", tmp_path / "out", "--html") == 0
    assert lines in capsys.readouterr().out
    head, _, rest = (tmp_path / "out" / "report.txt").read_text().partition("\n\n")
    assert lines in head and "subject" in rest
    assert lines.partition("\n")[0] in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    splits = split_listed(read_listing(path).scans)
    assert [f"{split} {len(ids)}" in head for split, ids in splits.items()] == [True] * 3


def test_the_report_says_which_numbers_segment_will_write(new_cohort, tmp_path, capsys):
    cohort = new_cohort(5)
    for names, line in (
        ("1,a\n2,b\n3,c", "will write the numbers of these label maps: 1 a, 2 b, 3 c\n"),
        ("1,a\n2,b\n3,a", "will write the numbers 1 to 2 in the order of the classes, since several are a here\n"),
        ("", "will write the numbers of these label maps\n"),
    ):
        path = cohort.save(named=False)
        (cohort.folder / "labels.csv").write_text(f"number,name\n{names}\n")
        if not names:
            (cohort.folder / "labels.csv").unlink()
        assert call(path, "-o", tmp_path / "out") == 0
        assert f"\ndeepatlas segment {line}" in capsys.readouterr().out


def test_warnings_are_a_failure_on_demand_only(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort(6)
    label = draw_anatomy(60)[1]
    label[label == 3] = 0
    cohort.add("s60", label=label)  # a class that all others have
    path = cohort.save()
    assert call(path, "-o", tmp_path / "out") == 0 and proto(tmp_path / "out", "anomalies").anomaly_info
    assert call(path, "-o", tmp_path / "out", "--strict") == 1


def test_what_training_refuses_is_an_error(new_cohort, tmp_path, capsys):
    cohort = new_cohort(5)
    cohort.add("s60", split="test", label=None)
    assert call(cohort.save(), "-o", tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "\ntraining stops: " in text and "cannot be trained: " in text
    assert text.count("a test subject needs a label map") == 2


def test_a_number_that_no_training_map_has_stops_training(new_cohort, draw_anatomy, tmp_path, capsys):
    """Where no classes are declared, the numbers of the training label maps are all that there are."""
    cohort, label = new_cohort(6), draw_anatomy(60)[1]
    label[0, 0, 0] = 9
    cohort.add("s60", split="test", label=label)
    assert call(cohort.save(named=False), "-o", tmp_path / "out") == 1
    assert (
        "number not in training: no training label map holds class_9, in the label maps of s60"
        in capsys.readouterr().out
    )


def test_next_months_scans_are_checked_against_the_frozen_schema(new_cohort, tmp_path, capsys):
    assert call(new_cohort(8).save(), "-o", tmp_path / "april") == 0
    schema = tmp_path / "april" / "schema.pbtxt"
    assert call(new_cohort(2, "may").save(), "-o", tmp_path / "may", "--schema", schema) == 0
    assert proto(tmp_path / "may", "schema") == proto(tmp_path / "april", "schema")
    june = new_cohort(1, "june")
    june.add("s50", affine=np.diag([1.0, 1.5, 4.0, 1.0]))  # one of two: nothing to compare with but the schema
    capsys.readouterr()
    assert call(june.save(), "-o", tmp_path / "june", "--schema", schema) == 1
    assert "schema: subject s50: spacing_z 4 is above the schema's 2.04" in capsys.readouterr().out
    info = proto(tmp_path / "june", "anomalies").anomaly_info["spacing_z"]
    assert [reason.type for reason in info.reason] == [anomalies_pb2.AnomalyInfo.FLOAT_TYPE_BIG_FLOAT]


def test_a_broken_subject_does_not_widen_the_schema(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort(8)
    label = draw_anatomy(70)[1]
    label[0, 0, 0] = 9
    cohort.add("s70", label=label, affine=np.diag([9.0, 9, 9, 1]))
    assert call(cohort.save(), "-o", tmp_path / "out") == 1
    (spacing,) = [one for one in proto(tmp_path / "out", "schema").feature if one.name == "spacing_x"]
    assert spacing.float_domain.max == pytest.approx(1.02)


def test_the_page_needs_no_other_file_and_shows_the_scans(new_cohort, draw_anatomy, tmp_path):
    cohort = new_cohort(6)
    cohort.add("s60", label=np.zeros_like(draw_anatomy(0)[1]))
    cohort.add("s61", label=None)
    (cohort.folder / "s00_0.nii.gz").write_bytes(b"<script>")
    assert call(cohort.save(), "-o", tmp_path / "out", "--html") == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page) and "<script" not in page
    assert "empty label map" in page and page.count("<svg") == 3
    pictures = [base64.b64decode(text) for text in re.findall(r"base64,([^\"]+)", page)]
    assert len(pictures) == 8  # s00 has its label map
    drawn = matplotlib.image.imread(io.BytesIO(pictures[1]), format="png")[..., :3]
    assert drawn.shape[0] == 120 and np.ptp(drawn, axis=-1).max() > 0.3  # contours have colours
    grey = matplotlib.image.imread(io.BytesIO(pictures[7]), format="png")[..., :3]
    assert np.ptp(grey, axis=-1).max() == 0


def test_names_are_escaped_in_the_page(new_cohort, tmp_path):
    cohort = new_cohort(5)
    path = cohort.save()
    (cohort.folder / "labels.csv").write_text("number,name\n1,<b>a</b>\n2,b&c\n3,d\n")
    assert call(path, "-o", tmp_path / "out", "--html") == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>a</b>" not in page and "&lt;b&gt;a&lt;/b&gt;" in page


@pytest.mark.parametrize("where", ["nowhere", "empty", "nowhere.csv"])
def test_nothing_to_validate_is_2_and_leaves_nothing(where, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert call(where) == 2
    assert where in capsys.readouterr().err and not (tmp_path / "validation").exists()


def test_what_cannot_be_read_or_written_is_one_line(new_cohort, tmp_path, capsys):
    path = new_cohort(5).save()
    assert call(path, "--schema", tmp_path / "absent.pbtxt") == 2
    (tmp_path / "file").write_text("")
    assert call(path, "-o", tmp_path / "file") == 1
    (tmp_path / "bad.csv").write_text("subject,picture\na,b\n")
    assert call(tmp_path / "bad.csv") == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and "absent.pbtxt" in errors[0] and "choose another folder" in errors[1]
    assert "picture" in errors[2]


@pytest.mark.slow
def test_a_prepared_data_set_is_validated_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = functools.partial(load.load_dataset, shape=(24, 24), spacing=(5, 5), n_subjects=12)
    monkeypatch.setattr(load, "load_dataset", small)
    assert call("phantom_knee", "--data-dir", tmp_path / "data", "--html") == 0
    text = capsys.readouterr().out
    assert "phantom_knee (synthetic), prepared records: 12 subjects" in text
    assert re.search(r"test +24x24 +5x5 +RA ", text)
    found = proto(tmp_path / "validation" / "phantom_knee", "stats")
    assert [one.name for one in found.datasets][0] == "All Examples" and found.datasets[0].num_examples == 12
    assert {one.name for one in found.datasets[1:]} == {"split_train", "split_validation", "split_test"}


def test_the_files_of_a_known_data_set_are_validated_before_they_are_built(tmp_path, write_scans, capsys):
    ids = [f"hippocampus_{i:03d}" for i in range(8)]
    scans = write_scans(tmp_path / "Task04_Hippocampus", ids, unlabelled=ids[:1])
    (scans / "imagesTr" / "hippocampus_003.nii.gz").write_bytes(b"\x1f\x8b broken")
    arguments = ["hippocampus", "--manual-dir", tmp_path, "-o", tmp_path / "out"]
    assert call(*arguments) == 1
    text = capsys.readouterr().out
    assert "unusable image: subject hippocampus_003" in text and "1 of 8 subjects have no label map" in text
    assert re.search(r"hippocampus_00[4-7] +(train|test)", text) and "anterior ml" in text
    assert call("hippocampus", "--manual-dir", tmp_path / "absent") == 2


def test_a_data_set_that_reads_its_scans_itself_is_validated_too(tmp_path, write_scans, monkeypatch, capsys):
    """As DICOM series are: the builder's own ``load`` is called, and what it cannot read is a finding."""
    scans = write_scans(tmp_path / "Task04_Hippocampus", [f"hippocampus_{i:03d}" for i in range(6)])
    builder = importlib.import_module("deepatlas_tf.datasets.hippocampus.hippocampus_dataset_builder").Builder
    load = builder.load
    monkeypatch.setattr(builder, "load", lambda self, scan: load(self, scan))
    assert call("hippocampus", "--manual-dir", scans, "-o", tmp_path / "out") == 0
    (scans / "labelsTr" / "hippocampus_002.nii.gz").write_bytes(b"")
    assert call("hippocampus", "--manual-dir", scans, "-o", tmp_path / "out") == 1
    assert "hippocampus_002.nii.gz" in capsys.readouterr().out


def test_own_scans_go_by_the_name_nifti_too(new_cohort, tmp_path):
    assert call("nifti", "--manual-dir", new_cohort(5).save(), "-o", tmp_path / "out") == 0
    assert call("nifti", "-o", tmp_path / "out") == 2


def test_real_scans_have_true_findings_only(real_data, tmp_path):
    """Forty hippocampi, whose intensities differ by three orders of magnitude: a note, no anomaly."""
    for path in sorted((real_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[:40]:
        for part in ("imagesTr", "labelsTr"):
            (tmp_path / "few" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "few" / part / path.name).symlink_to(path.parents[1] / part / path.name)
    assert call(tmp_path / "few", "-o", tmp_path / "out") == 0
    report = (tmp_path / "out" / "report.txt").read_text()
    assert "intensity scale" in report and "no anomalies" in report


def test_help_needs_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "deepatlas_tf", "data", "validate", "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "--schema" in result.stdout and "examples:" in result.stdout
    assert "tensorflow" not in result.stderr


FILES = ["schema.pbtxt", "stats.pbtxt", "anomalies.pbtxt", "subjects.csv", "report.txt", "report.html"]


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_is_one_line_with_the_path(new_cohort, tmp_path, monkeypatch, capsys, file):
    """The earlier files stay whole. The error of a full disk names no file."""
    path, out = new_cohort(5).save(), tmp_path / "out"
    assert call(path, "-o", out, "--html") == 0
    before = {name: (out / name).read_bytes() for name in FILES}
    write = Path.write_bytes

    def full(self, data):
        if self.name.endswith(file):
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    capsys.readouterr()
    assert call(path, "-o", out, "--html") == 1
    error = capsys.readouterr().err.strip()
    assert error == f"error: cannot write {out / file} (No space left on device); choose another folder with -o"
    assert {name: (out / name).read_bytes() for name in FILES} == before
    assert sorted(name.name for name in out.iterdir()) == sorted(FILES)


def test_a_folder_that_cannot_be_made(new_cohort, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert call(new_cohort(5).save(), "-o", tmp_path / "file" / "out") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: cannot write {tmp_path / 'file' / 'out'}") and "\n" not in error
