"""Tables beside the knees that are no UTF-8 text: one line each."""

import pytest

from deepatlas_tf.datasets.oai_knee import originals, sides
from deepatlas_tf.types import DataError

LATIN = "sujet,côté\n9000001,left\n".encode("latin-1")


def test_sides_in_latin_1(tmp_path):
    (tmp_path / "sides.csv").write_bytes(LATIN)
    with pytest.raises(DataError, match="sides.csv: is no CSV .*UTF-8"):
        sides.read_sides(tmp_path / "sides.csv")
    (tmp_path / "sides.csv").write_bytes(LATIN.decode("latin-1").encode())
    assert sides.read_sides(tmp_path / "sides.csv") == {"9000001": "left"}


@pytest.mark.parametrize("name", [originals.TEST_LIST, originals.PATHS])
def test_lists_in_latin_1(tmp_path, name):
    (tmp_path / name).write_bytes(LATIN)
    with pytest.raises(DataError, match="is no UTF-8 text"):
        originals.read_test_list(tmp_path)
        originals.find_scans(tmp_path)
