import time

import nibabel as nib
import numpy as np
import pytest

from deepatlas_tf.datasets.hippocampus import hippocampus_dataset_builder
from deepatlas_tf.datasets.hippocampus import make_dummy_data as dummy
from deepatlas_tf.datasets.hippocampus.hippocampus_dataset_builder import Builder
from deepatlas_tf.datasets.load import load_dataset
from deepatlas_tf.keras_stack import tfds
from deepatlas_tf.types import DataError, MissingDataError

GRID = {"shape": (16, 16, 16), "spacing": (1, 1, 1)}
SPLITS = {"train": 4, "validation": 1, "test": 3}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small tar in the place of the published one, with its size and checksum registered."""
    path = dummy.make_tar(tmp_path / "bucket")
    publish(path, monkeypatch)
    return path


def publish(path, monkeypatch):
    monkeypatch.setattr(Builder, "URL", path.as_uri())
    monkeypatch.setattr(Builder, "url_infos", {path.as_uri(): tfds.download.checksums.compute_url_info(path)})


def load(tmp_path, folder="nothing"):
    return load_dataset("hippocampus", data_dir=tmp_path / "tfds", manual_dir=tmp_path / folder, **GRID)


def nothing_built(folder):
    built = [path for path in folder.rglob("*") if path.name == "dataset_info.json" or "tfrecord" in path.name]
    return not built


def test_registered_file_is_the_one_that_the_builder_asks_for():
    (line,) = (Builder.pkg_dir_path / "checksums.tsv").read_text().splitlines()
    url, size, sha256, name = line.split("\t")
    assert (url, int(size), name) == (Builder.URL, 28_425_216, "Task04_Hippocampus.tar")
    assert len(sha256) == 64 and set(Builder.url_infos) == {url}


def test_downloads_what_is_not_there(tmp_path, published, capsys):
    data = load(tmp_path)
    assert {split: len(ids) for split, ids in data.subjects.items()} == SPLITS
    said = capsys.readouterr().err
    assert published.as_uri() in said and "28 MB" in said
    for sample in data.samples("test").as_numpy_iterator():
        name = f"{sample['subject'].decode()}.nii.gz"
        label = nib.load(published.parent / "unpacked" / "Task04_Hippocampus" / "labelsTr" / name).get_fdata()
        np.testing.assert_array_equal(
            np.bincount(sample["label"].ravel())[1:], [(label == 1).sum(), (label == 2).sum()]
        )


def test_a_second_grid_needs_no_second_download(tmp_path, published):
    load(tmp_path)
    published.unlink()
    data = load_dataset("hippocampus", data_dir=tmp_path / "tfds", manual_dir=tmp_path / "nothing", shape=(8, 8, 8))
    assert {split: len(ids) for split, ids in data.subjects.items()} == SPLITS


def test_tar_in_the_manual_folder_is_taken(tmp_path, published, monkeypatch):
    (tmp_path / "manual").mkdir()
    published.rename(tmp_path / "manual" / published.name)
    assert {split: len(ids) for split, ids in load(tmp_path, "manual").subjects.items()} == SPLITS


def test_unpacked_folder_is_taken_without_a_download(tmp_path, published, capsys):
    dummy.make_folder(tmp_path / "manual", 10)
    published.unlink()
    assert sum(map(len, load(tmp_path, "manual").subjects.values())) == 10
    assert "fetching" not in capsys.readouterr().err


def test_no_connection(tmp_path, published):
    published.unlink()
    with pytest.raises(MissingDataError, match="could not be downloaded") as error:
        load(tmp_path)
    assert "--manual_dir" in str(error.value) and "imagesTr" in str(error.value) and nothing_built(tmp_path / "tfds")


def test_without_a_network_it_stops_at_once(tmp_path, monkeypatch):
    url = "http://localhost:9/Task04_Hippocampus.tar"  # a port that nothing listens on
    monkeypatch.setattr(Builder, "URL", url)
    monkeypatch.setattr(Builder, "url_infos", {url: tfds.download.checksums.UrlInfo(1, "0" * 64, "a.tar")})
    start = time.monotonic()
    with pytest.raises(MissingDataError, match="could not be downloaded"):
        load(tmp_path)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("keep", [1000, 5000])
def test_partial_download_is_refused_and_the_next_one_taken(tmp_path, published, keep):
    whole = published.read_bytes()
    published.write_bytes(whole[:keep])
    with pytest.raises(DataError, match="not the published file") as error:
        load(tmp_path)
    message = str(error.value)
    assert not isinstance(error.value, MissingDataError) and "\n" not in message
    assert nothing_built(tmp_path / "tfds")
    published.write_bytes(whole)
    assert {split: len(ids) for split, ids in load(tmp_path).subjects.items()} == SPLITS


@pytest.mark.slow
class Unpacked(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, with the scans in the manual folder."""

    DATASET_CLASS = Builder
    SPLITS = SPLITS
    BUILDER_CONFIG_NAMES_TO_TEST = [Builder.config_for(**GRID)]

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, tmp_path_factory):
        request.cls.EXAMPLE_DIR = dummy.make_folder(tmp_path_factory.mktemp("hippocampus")).parent


class Downloaded(Unpacked):
    """The same where a download must bring them; it also checks that the file's checksum is registered."""

    DL_EXTRACT_RESULT = "downloaded"

    @pytest.fixture(autouse=True)
    def _no_connection_needed(self, monkeypatch):
        monkeypatch.setattr(hippocampus_dataset_builder, "check_connection", lambda url: None)

    @pytest.fixture(autouse=True, scope="class")
    def _dummy_data(self, request, tmp_path_factory):
        request.cls.EXAMPLE_DIR = tmp_path_factory.mktemp("hippocampus")
        dummy.make_folder(request.cls.EXAMPLE_DIR / "downloaded")
