"""Paths that are no list of scans: one line that names the path, what is missing, and which path may be meant."""

import os

import pytest

from deepatlas_tf.datasets.listing import read_listing
from deepatlas_tf.datasets.not_a_listing import no_folder_of_label_maps
from deepatlas_tf.types import MissingDataError


def test_neither_folder_nor_csv(tmp_path):
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    for source, reason in ((tmp_path, "no imagesTr"), (tmp_path / "x.csv", "no such"), (tmp_path / "loop", "no such")):
        with pytest.raises(MissingDataError) as error:
            read_listing(source)
        message = str(error.value)
        assert message.startswith(f"{source}: ") and reason in message and "\n" not in message


def test_a_part_of_a_folder_is_told_the_whole(tmp_path, write_scans):
    path = write_scans(tmp_path / "D", ["a"])
    for part in ("imagesTr", "labelsTr"):
        with pytest.raises(MissingDataError) as error:
            read_listing(path / part)
        assert str(error.value) == f"{path / part}: is only a part of a data set; give the whole of it, {path}"


def test_a_folder_of_label_maps_with_another_name(tmp_path, write_scans):
    path = write_scans(tmp_path / "D", ["a"])
    assert no_folder_of_label_maps(path) is None and no_folder_of_label_maps(tmp_path) is None
    for name, hint in (("labelTr", "rename labelTr"), ("masks", "add it, if there are label maps")):
        next(folder for folder in path.iterdir() if folder.name != "imagesTr").rename(path / name)
        assert no_folder_of_label_maps(path) == f"there is no folder labelsTr in {path}; {hint}"
