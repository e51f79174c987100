"""The small pictures of the page: sides of the patient, and the colours of the classes."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from deepatlas_tf.scans.nifti import Nifti
from deepatlas_tf.validation.scan_summary import LoadedScan
from deepatlas_tf.validation.thumbnails import HEIGHT, class_colour, thumbnail
from deepatlas_tf.view import turned

NAMES = ("other", "ball")


def coronal(loaded):
    """The second of three square pictures."""
    pixels = imread(io.BytesIO(thumbnail(loaded, NAMES)))[..., :3]
    assert pixels.shape == (HEIGHT, 3 * (HEIGHT + 2), 3)
    return pixels[:, HEIGHT + 2 : 2 * HEIGHT + 2]


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("neurological", [False, True])
@pytest.mark.parametrize(("class_of", "number"), [({7: "ball", 1: "other"}, 7), ({3: "ball"}, 3)])
def test_a_ball_on_the_right(flipped, neurological, class_of, number):
    """On the patient's right, however the file stores it."""
    label = np.zeros((20, 20, 20), np.int32)
    label[13:18, 8:12, 8:12] = number
    affine = np.eye(4)
    if flipped:
        label, affine = label[::-1], np.diag([-1.0, 1.0, 1.0, 1.0])
    image = np.random.default_rng(0).random(label.shape).astype(np.float32)
    loaded = LoadedScan("s", Nifti(image, affine), Nifti(label, affine), True, class_of=class_of)
    with turned(neurological):
        found = coronal(loaded)
    ball = np.abs(found - class_colour(1)).max(axis=-1) < 0.01
    ball_columns = np.argwhere(ball)[:, 1]
    assert ball.any() and (ball_columns.mean() > HEIGHT / 2) == neurological
    # the bar of the L is bright over its whole height, the lower right of the R is not
    corner = found[2:12, 2:4] if neurological else found[2:12, -10:-8]
    assert (corner == 1).all()


def test_slices_have_no_letters():
    image = np.zeros((20, 20), np.float32)
    image[5:9] = np.random.default_rng(0).random((4, 20)) + 1
    pixels = imread(io.BytesIO(thumbnail(LoadedScan("s", Nifti(image, np.eye(3))), ())))
    assert pixels.shape[:2] == (HEIGHT, HEIGHT + 2) and (pixels[:12, :12, :3] == 0).all()
