"""Similarities for two contrasts against NumPy, SciPy and neurite; that they see through a change of contrast."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from deepatlas_tf.keras_stack import ne, tf
from deepatlas_tf.losses import multimodal
from deepatlas_tf.losses.multimodal import mind_ssc, mutual_information, ngf, plain_mutual_information

SHAPES = [(11, 12), (6, 7, 8)]


def images(shape):
    return np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)


def parzen_windows(x, n_bins, sigma):
    """(B, V, n_bins): Gaussian windows over the bins, normalised for each voxel."""
    centres = np.arange(n_bins) / (n_bins - 1)
    windows = np.exp(-0.5 * ((x.reshape(len(x), -1, 1) - centres) * (n_bins - 1) / sigma) ** 2)
    return windows / windows.sum(-1, keepdims=True)


@pytest.mark.parametrize("n_bins", [8, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_mutual_information_equals_numpy_and_neurite(shape, n_bins):
    a, b = images(shape)
    windows_a, windows_b = (parzen_windows(x.astype(np.float64), n_bins, 0.5) for x in (a, b))
    joint = np.einsum("bvi,bvj->bij", windows_a, windows_b) / windows_a.shape[1]
    independent = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    expected = (joint * np.log(np.maximum(joint, 1e-300) / independent)).sum((1, 2))
    values = mutual_information(a, b, n_bins=n_bins)
    np.testing.assert_allclose(values, -expected, atol=1e-5)
    reference = ne.metrics.MutualInformation().maps(*(tf.constant(x, tf.float32) for x in (windows_a, windows_b)))
    np.testing.assert_allclose(values, -reference, atol=1e-3)  # neurite adds 1e-7 inside of the logarithm


def test_hard_bins_give_the_mutual_information_of_discrete_values():
    """Values on the bins' centres, narrow windows: the entropy of two independent dice is known."""
    first, second = np.meshgrid(np.arange(4) / 3, np.arange(4) / 3, indexing="ij")
    a, b = (np.tile(x, (2, 2))[None, ..., None].astype(np.float32) for x in (first, second))
    np.testing.assert_allclose(mutual_information(a, b, n_bins=4, sigma=0.1), 0, atol=1e-6)
    np.testing.assert_allclose(mutual_information(a, 1 - a, n_bins=4, sigma=0.1), -np.log(4), rtol=1e-5)


@pytest.mark.slow
def test_mutual_information_in_parts_is_that_of_the_definition(monkeypatch):
    """Also with a last part that is not full, for the value and its gradient."""
    a, b = (tf.constant(x) for x in images((11, 12)))

    def value_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            value = function(a, b)
        return value, *tape.gradient(value, [a, b])

    whole = value_and_gradient(plain_mutual_information)
    for part, expected in zip(value_and_gradient(mutual_information), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(multimodal, "_CHUNK", 50)  # 132 voxels
    for part, expected in zip(value_and_gradient(mutual_information.__wrapped__), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("shape", "radius", "dilation"), [((11, 12), 2, 2), ((11, 12), 1, 1), ((6, 7, 8), 2, 2)])
def test_mind_ssc_equals_its_definition(shape, radius, dilation):
    a, b = images(shape)
    descriptors = ([_mind_ssc(image, radius, dilation) for image in images_of] for images_of in (a, b))
    expected = [np.mean((x - y) ** 2) for x, y in zip(*descriptors, strict=True)]
    np.testing.assert_allclose(mind_ssc(a, b, radius, dilation), expected, rtol=1e-4)


def _mind_ssc(image, radius, dilation):
    """Straight from the definition, all pairs of neighbours one by one: ``(*S, 1)`` -> ``(K, *S)``."""
    image = image[..., 0].astype(np.float64)
    n_axes, margin = image.ndim, radius + dilation
    padded = np.pad(image, margin + radius, mode="edge")
    neighbours = [sign * dilation * axis for axis in np.eye(n_axes, dtype=int) for sign in (1, -1)]
    pairs = [(p, q) for p, q in itertools.combinations(neighbours, 2) if p @ q == 0]
    assert len(pairs) == {2: 4, 3: 12}[n_axes]
    inside = (slice(margin + radius, -margin - radius),) * n_axes
    axes = tuple(range(n_axes))
    distances = []
    for p, q in pairs:
        difference = np.roll(padded, -p, axes) - np.roll(padded, -q, axes)
        distances.append(uniform_filter(difference**2, 2 * radius + 1)[inside])
    distances = np.array(distances) - np.min(distances, axis=0)
    variance = distances.mean(0)
    return np.exp(-distances / np.clip(variance, 0.001 * variance.mean(), 1000 * variance.mean()))


@pytest.mark.parametrize("shape", SHAPES)
def test_ngf_equals_its_definition(shape):
    a, b = images(shape)
    inside = (slice(1, -1),) * len(shape)
    expected = []
    for x, y in zip(a, b, strict=True):
        gradient_a, gradient_b = (np.array(np.gradient(image[..., 0]))[(slice(None), *inside)] for image in (x, y))
        product = (gradient_a * gradient_b).sum(0) + 0.1**2
        norms = ((gradient_a**2).sum(0) + 0.1**2) * ((gradient_b**2).sum(0) + 0.1**2)
        expected.append(1 - np.mean(product**2 / norms))
    np.testing.assert_allclose(ngf(a, b, edge=0.1), expected, rtol=1e-4)


@pytest.mark.parametrize("loss", [mutual_information, mind_ssc, ngf])
def test_aligned_images_of_two_contrasts_cost_least(loss):
    """A smooth image and a function of its intensity that rises and falls: shifting one of them always costs."""
    image = gaussian_filter(np.random.default_rng(0).random((40, 44)), 3)
    image = (image - image.min()) / np.ptp(image)
    other = np.sin(np.pi * image) * (1 - 0.5 * image)
    costs = [
        float(loss(*(x[None, ..., None].astype(np.float32) for x in (np.roll(other, shift, 0)[5:-5], image[5:-5])))[0])
        for shift in (-4, -2, 0, 2, 4)
    ]
    assert np.argmin(costs) == 2 and costs[0] > costs[1] and costs[4] > costs[3]
