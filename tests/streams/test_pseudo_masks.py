"""Pseudo masks as files and in the streams; streams without them stay as they were."""

import numpy as np
import pytest

from deepatlas_tf.keras_stack import tf
from deepatlas_tf.streams.augment import Augmentation, augment_geometry
from deepatlas_tf.streams.pairs import StreamSettings, pair_stream, sample_stream
from deepatlas_tf.streams.pseudo_masks import decoded, encode, mask_path, read_mask, with_soft_labels
from deepatlas_tf.types import DataError

SUBJECTS = ("a", "b/1", "c")
SHAPES = {"2D": (6, 5), "3D": (4, 5, 3)}


def masks(shape):
    rng = np.random.default_rng(0)
    return {s: rng.dirichlet(np.ones(3), shape).astype(np.float32) for s in SUBJECTS}


def samples(shape):
    """The first subject has a label for all three classes, the second for one, the third none."""
    rng = np.random.default_rng(1)
    return tf.data.Dataset.from_tensor_slices(
        {
            "image": rng.random((3, *shape, 1)).astype(np.float32),
            "label": rng.integers(0, 3, (3, *shape)).astype(np.int32),
            "label_weight": np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0]], np.float32),
            "subject": list(SUBJECTS),
        }
    )


def write(folder, shape):
    for subject, mask in masks(shape).items():
        with mask_path(folder, subject).open("wb") as file:
            np.savez_compressed(file, soft_label=encode(mask))


@pytest.mark.parametrize("dimension", SHAPES)
def test_masks_come_back_as_probabilities(dimension, tmp_path):
    shape = SHAPES[dimension]
    write(tmp_path, shape)
    found = list(with_soft_labels(samples(shape), tmp_path, 3).map(decoded).as_numpy_iterator())
    assert np.all(found[0]["soft_label"] == 0)  # its label is whole
    for sample, subject in zip(found[1:], SUBJECTS[1:], strict=True):
        assert sample["soft_label"].dtype == np.float32
        np.testing.assert_allclose(sample["soft_label"], masks(shape)[subject], atol=0.006)
        np.testing.assert_allclose(sample["soft_label"].sum(-1), 1, atol=1e-6)


def test_the_gate_empties_what_is_not_sure(tmp_path):
    shape = SHAPES["2D"]
    write(tmp_path, shape)
    last = list(with_soft_labels(samples(shape), tmp_path, 3, gate=0.6).map(decoded).as_numpy_iterator())[-1]
    sure = read_mask(tmp_path, "c").max(-1) >= 0.6 * 255
    assert 0 < sure.mean() < 1
    np.testing.assert_allclose(last["soft_label"].sum(-1), sure, atol=1e-6)


def test_a_missing_or_broken_mask_is_named(tmp_path):
    with pytest.raises(DataError, match=r"subject a: .*a\.npz is no pseudo mask"):
        read_mask(tmp_path, "a")
    mask_path(tmp_path, "a").write_bytes(b"half")
    with pytest.raises(DataError, match="delete"):
        read_mask(tmp_path, "a")


def test_whatever_is_damaged_is_one_line_that_names_the_file(tmp_path):
    """Cut anywhere, or a byte changed anywhere: the mask as it was (some bytes do not matter), or the error."""
    write(tmp_path, SHAPES["2D"])
    path, expected = mask_path(tmp_path, "b/1"), read_mask(tmp_path, "b/1")
    whole = path.read_bytes()
    changed = [whole[:n] for n in range(0, len(whole), 7)]
    changed += [whole[:n] + bytes([whole[n] ^ bits]) + whole[n + 1 :] for n in range(len(whole)) for bits in (1, 255)]
    n_errors = 0
    for content in changed:
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(read_mask(tmp_path, "b/1"), expected)
        except DataError as error:
            n_errors += 1
            assert str(error).startswith(f"subject b/1: {path} is no pseudo mask (") and "\n" not in str(error)
    assert n_errors > len(changed) / 2


def test_something_else_in_the_file_is_named(tmp_path):
    path = mask_path(tmp_path, "a")
    with path.open("wb") as file:
        np.savez_compressed(file, soft_label=np.ones((6, 5, 3)))
    with pytest.raises(DataError, match=r"a\.npz is no pseudo mask \(its type is float64, not uint8\): delete"):
        read_mask(tmp_path, "a")
    with path.open("wb") as file:
        np.save(file, np.ones((6, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.npz is no pseudo mask"):
        read_mask(tmp_path, "a")


def test_a_mask_of_another_grid_is_named_when_the_stream_is_read(tmp_path):
    """TensorFlow passes the error on as a text; the command line takes its line out of that."""
    write(tmp_path, (7, 5))
    with pytest.raises(tf.errors.OpError, match=r"DataError: subject b/1: .*b%2F1\.npz has the shape \(7, 5, 3\), not"):
        list(with_soft_labels(samples(SHAPES["2D"]), tmp_path, 3))


@pytest.mark.parametrize("dimension", SHAPES)
def test_a_soft_label_moves_with_the_image(dimension):
    """A class probability that is the image itself stays the image itself."""
    shape = SHAPES[dimension]
    sample = next(iter(samples(shape)))
    soft = tf.concat([1 - sample["image"], sample["image"]], axis=-1)
    settings, seed = Augmentation(flip_axes=(0,)), tf.constant([3, 4])
    moved = augment_geometry({**sample, "soft_label": soft}, settings, seed)
    alone = augment_geometry(sample, settings, seed)
    np.testing.assert_allclose(moved["soft_label"][..., 1:], moved["image"], atol=1e-6)
    for name in ("image", "label"):
        np.testing.assert_allclose(moved[name], alone[name], atol=1e-6)
    assert not np.allclose(moved["image"], sample["image"])


@pytest.mark.slow
@pytest.mark.parametrize("stream", [sample_stream, pair_stream])
def test_a_stream_draws_the_same_with_masks(stream, tmp_path):
    shape = SHAPES["2D"]
    write(tmp_path, shape)
    settings = StreamSettings(2, 3, seed=1, augmentation=Augmentation(noise=0.0))
    fraction = None if stream is sample_stream else (None, None)
    with_masks = stream(with_soft_labels(samples(shape), tmp_path, 3), SUBJECTS, SUBJECTS[:2], fraction, settings)
    without = stream(samples(shape), SUBJECTS, SUBJECTS[:2], fraction, settings)
    for one, other in zip(with_masks.take(3), without.take(3), strict=True):
        sides = [(one, other)] if stream is sample_stream else [(one[s], other[s]) for s in ("moving", "fixed")]
        for masked, plain in sides:
            assert set(masked) - set(plain) == {"soft_label"} and masked["soft_label"].shape == (2, *shape, 3)
            assert masked["soft_label"].dtype == tf.float32
            assert masked["subject"].numpy().tolist() == plain["subject"].numpy().tolist()
            np.testing.assert_allclose(masked["image"], plain["image"], atol=1e-6)
