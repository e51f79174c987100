"""What surrounds the anatomy in a file is found, whatever it is, and the anatomy is not cut."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from deepatlas_tf.apply.foreground import around_content, without_border

SHAPE = (20, 24, 18)
WIDTHS = {
    "all round": [(8, 8)] * 3,
    "off-centre": [(0, 40), (13, 2), (4, 9)],
    "one side": [(0, 0), (0, 0), (5, 0)],
}


def tissue(seed=0, shape=SHAPE):
    """Anatomy cut on all sides: grey values up to the faces, some of them 0."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.rint(np.clip(400 + 200 * values / values.std(), 0, None)).astype(np.float32)


def head(shape=SHAPE):
    """An ellipsoid in black air that comes near to the faces."""
    x = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return np.where(np.linalg.norm(x / (np.array(shape) / 2 - 2), axis=-1) < 1, tissue(1, shape) + 300, 0)


def noise(shape, like):
    return np.abs(np.random.default_rng(2).normal(size=shape) * 0.02 * like.max()).astype(np.float32)


def bordered(volume, widths, kind):
    if kind == "continued":
        return np.pad(volume, widths, mode="edge")
    if kind == "noise":
        padded = noise([n + a + b for n, (a, b) in zip(volume.shape, widths, strict=True)], volume)
        padded[inside(volume, widths)] = volume
        return padded
    return np.pad(volume, widths, constant_values={"black": 0, "air of a CT": -1000, "grey": 500}[kind])


def inside(volume, widths):
    return tuple(slice(before, before + n) for n, (before, _) in zip(volume.shape, widths, strict=True))


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("kind", ["black", "air of a CT", "grey", "continued", "noise"])
def test_an_added_border_is_found_to_the_voxel(kind, widths):
    volume = tissue()
    assert without_border(bordered(volume, widths, kind)) == inside(volume, widths)


@pytest.mark.parametrize("first", ["black", "continued"])
def test_a_border_in_a_border_is_found(first):
    volume, second = tissue(), {"black": "continued", "continued": "black"}[first]
    once = bordered(volume, WIDTHS["all round"], first)
    widths = WIDTHS["one side"] if second == "continued" else WIDTHS["off-centre"]
    found = without_border(bordered(once, widths, second))
    assert volume[()].shape == tuple(part.stop - part.start for part in found)
    np.testing.assert_array_equal(bordered(once, widths, second)[found], volume)


@pytest.mark.parametrize("volume", [tissue(), head(), tissue(shape=(30, 26)), np.ones((5, 6, 7), np.float32)])
def test_a_plain_scan_is_whole(volume):
    """A skull-stripped head lies in black air: nobody added it."""
    assert without_border(volume) == tuple(slice(0, n) for n in volume.shape)


def test_a_few_planes_may_be_empty_or_repeated():
    """As where a scan was resampled: the networks have seen such scans in training."""
    volume = tissue()
    volume[:3] = 0
    volume[:, -3:] = volume[:, [-4]]
    assert without_border(volume) == tuple(slice(0, n) for n in volume.shape)


def test_a_head_in_much_air_is_in_the_middle_of_the_part():
    volume = np.pad(head(), [(30, 5), (0, 0), (2, 60)])
    found = around_content(volume, (24, 26, 30))
    assert [part.stop - part.start for part in found] == [24, 24, 30]  # no larger than the file
    middle = [(part.start + part.stop) / 2 for part in found]
    np.testing.assert_allclose(middle, [30 + 10, 12, 2 + 9 + 4], atol=1)  # the last is held by the border of the file


def test_content_that_is_larger_is_kept_whole():
    found = around_content(np.pad(tissue(), 9), (12, 40, 60))
    assert found == (slice(9, 29), slice(1, 41), slice(0, 36))


def test_specks_in_the_air_are_no_content():
    volume = np.pad(head(), 20)
    volume[1, 1, 1] = volume[-2, -2, -2] = volume.max()
    assert around_content(volume, SHAPE) == (slice(20, 40), slice(20, 44), slice(20, 38))
