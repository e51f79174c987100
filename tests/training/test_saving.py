"""A full disk, or a folder that cannot be written, is one line with the path."""

import errno

import pytest

from deepatlas_tf.cli import explained
from deepatlas_tf.keras_stack import keras, tf
from deepatlas_tf.runs.folder import StageFolder
from deepatlas_tf.training.saving import save_best_weights, save_nets, taken_by_disk
from deepatlas_tf.types import DataError

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
    RuntimeError("Can't decrement id ref count (unable to close file, errno = 28, No space left on device)"),
    tf.errors.ResourceExhaustedError(None, None, "/w/epoch-0.data-00000-of-00001; No space left on device"),
    tf.errors.UnknownError(None, None, "x" * 500 + "\n; No space left on device"),
]


def network():
    return keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_every_kind_of_error_is_one_line_with_the_path(error, tmp_path):
    with pytest.raises(DataError) as caught, taken_by_disk(tmp_path / "checkpoints"):
        raise error
    text, status = explained(caught.value)
    assert status == 1 and text.startswith(f"error: cannot write {tmp_path / 'checkpoints'} (") and "\n" not in text
    assert ("No space left" in text or "Permission denied" in text) and len(text) < 450 + len(str(tmp_path))


def test_nothing_half_written_takes_the_place_of_weights(tmp_path, monkeypatch):
    path = StageFolder(tmp_path).best_weights("segmentation")
    net = network()
    save_best_weights(net, path)
    before = path.read_bytes()

    def half(self, name, *args, **kwargs):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(net), "save_weights", half)
    with pytest.raises(DataError, match="No space left"):
        save_best_weights(net, path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_networks_are_all_there_or_none(tmp_path, monkeypatch):
    folder, nets = StageFolder(tmp_path), {"registration": network(), "segmentation": network()}
    (folder.unfinished_nets / "left_by_a_killed_process").mkdir(parents=True)

    def full(path, save_format):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nets["segmentation"], "save", full)
    with pytest.raises(DataError, match="nets .No space left"):
        save_nets(nets, folder)
    assert not folder.is_finished
    monkeypatch.undo()
    save_nets(nets, folder)
    assert sorted(path.name for path in folder.nets.iterdir()) == ["registration.keras", "segmentation.keras"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "stage").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        save_nets({"segmentation": network()}, StageFolder(tmp_path / "stage"))
