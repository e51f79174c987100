"""``volumes.csv`` and ``labels.csv`` beside label maps, over several calls."""

import csv

import pytest

from deepatlas_tf.apply.result_tables import ResultTables
from deepatlas_tf.types import DataError

NAMES = ("background", "femur", "tibia")


def tables(folder, numbers=(0, 1, 2), names=NAMES):
    return ResultTables(folder, numbers, names)


def test_a_further_call_keeps_the_rows_and_replaces_those_of_its_scans(tmp_path):
    tables(tmp_path).add(["a.nii.gz", "1", "2"])
    tables(tmp_path).add(["b.nii.gz", "3", "4"])
    again = tables(tmp_path)
    again.check()
    again.add(["a.nii.gz", "5", "6"])
    again.add(["c, d.nii", "7", "8"])
    with (tmp_path / "volumes.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["scan", "femur_ml", "tibia_ml"],
            *(["a.nii.gz", "5", "6"], ["b.nii.gz", "3", "4"], ["c, d.nii", "7", "8"]),
        ]
    assert (tmp_path / "labels.csv").read_text() == "label,name\n0,background\n1,femur\n2,tibia\n"
    assert {path.name for path in tmp_path.iterdir()} == {"volumes.csv", "labels.csv"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"names": ("background", "femur", "patella")}, "volumes.csv has other columns than this model's"),
        ({"names": NAMES[:2], "numbers": (0, 1)}, "volumes.csv has other columns"),
        ({"numbers": (0, 1, 4)}, "labels.csv names other numbers than this model's"),
    ],
)
def test_results_of_another_model_stay(other, message, tmp_path):
    tables(tmp_path).add(["a.nii.gz", "1", "2"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message) as error:
        tables(tmp_path, **other).check()
    assert "\n" not in str(error.value) and "choose another folder" in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'scan,"femur', b"scan,femur_ml,tibia_ml\na.nii,1\n", b""])
def test_a_damaged_table_is_one_line(content, tmp_path):
    (tmp_path / "volumes.csv").write_bytes(content)
    with pytest.raises(DataError, match="volumes.csv") as error:
        tables(tmp_path).check()
    assert "\n" not in str(error.value)


def test_a_mark_of_a_spreadsheet_and_empty_lines_are_passed_over(tmp_path):
    (tmp_path / "volumes.csv").write_text("\ufeffscan,femur_ml,tibia_ml\r\na.nii,1,2\r\n\r\n", encoding="utf-8")
    tables(tmp_path).add(["b.nii", "3", "4"])
    assert (tmp_path / "volumes.csv").read_text() == "scan,femur_ml,tibia_ml\na.nii,1,2\nb.nii,3,4\n"
