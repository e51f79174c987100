"""Projection images of the synthetic phantoms: an X-ray-like radiograph, and a DXA-like map of bone mineral.

Rays are parallel and run from front to back. They are made to differ as such images do, not to be dosimetry.
"""

import numpy as np
import scipy.ndimage

from deepatlas_tf.phantoms.shapes import rescaled, texture

# What 1 mm of tissue adds along a ray. The X-ray's values are near the linear attenuation at 60 keV, in 1/mm (NIST
# tables); DXA's are bone mineral in g/cm^2, with a little left of the soft tissue that two energies do not cancel.
PROJECTIONS = {
    "xray": {
        "fat": 0.0185,
        "muscle": 0.0215,
        "marrow": 0.0320,
        "cortex": 0.0600,
        "cartilage": 0.0225,
        "ligament": 0.0230,
        "fluid": 0.0208,
        "scar": 0.0420,
    },
    "dxa": {
        "fat": 0.0002,
        "muscle": 0.0010,
        "marrow": 0.0180,
        "cortex": 0.1100,
        "cartilage": 0.0012,
        "ligament": 0.0015,
        "fluid": 0.0010,
        "scar": 0.0450,
    },
}
_PHOTONS = 3000.0  # reach a pixel of the X-ray detector through air
_WINDOW = 0.5  # of the X-ray: what attenuates less than this part of the densest bone is black


def detect(integral: np.ndarray, kind: str, rng: np.random.Generator | None) -> np.ndarray:
    """Image (*S,) float32 in [0, 1], bone bright, of the line integrals (*S,) of ``PROJECTIONS[kind]``.

    X-ray: ``exp(-integral)`` of the photons arrive, counted with Poisson noise, over 2 % scattered light; shown is the
    logarithm, in a window from soft tissue to bone. DXA: the mineral itself, blurred by a coarser beam, with the noise
    and the unequal lines of a scanned detector. ``rng`` None: the same without noise.
    """
    if kind == "dxa":
        image = scipy.ndimage.gaussian_filter(integral, 0.9)
        if rng is not None:
            image = image + integral.max() * rng.normal(0, 0.025, image.shape)
            image = image * (1 + 0.02 * rng.normal(size=image.shape[1])) + 0.02 * integral.max()
        return rescaled(np.maximum(image, 0))
    image = scipy.ndimage.gaussian_filter(integral, 0.4)
    if rng is not None:
        image = image * (1 + 0.012 * texture(rng, image.shape, 24) + 0.03 * texture(rng, image.shape, 5))
    photons = _PHOTONS * np.exp(-image)
    photons = photons + 0.02 * scipy.ndimage.gaussian_filter(photons, np.array(image.shape) / 6)
    if rng is not None:
        photons = np.maximum(rng.poisson(photons), 1)
    density = scipy.ndimage.gaussian_filter(np.log(_PHOTONS / photons), 0.5)
    return rescaled(np.maximum(density - _WINDOW * np.percentile(density, 99.5), 0))
