"""What was predicted in the space of a reference, brought to the grid that a scan has without the alignment.

So that runs with and without an alignment are measured on the same voxels.
"""

import numpy as np
import scipy.ndimage

from deepatlas_tf.scans.aligned_grid import resample_label


def plain_label(prediction: np.ndarray, to_network: np.ndarray, n_classes: int) -> np.ndarray:
    """A predicted label map on the plain grid, interpolated once, as one-hot volumes.

    Args:
        prediction: class indices ``(*S)`` on the network's grid.
        to_network: ``(D+1, D+1)``, voxels of the plain grid to voxels of the network's.
        n_classes: with the background.

    Returns:
        class indices ``(*S)``, background where the network's grid does not reach.
    """
    return resample_label(prediction, to_network, prediction.shape, n_classes)


def plain_field(u: np.ndarray, moving_to_network: np.ndarray, fixed_to_network: np.ndarray) -> np.ndarray:
    """The displacement field between the plain grids of two scans of which the network saw the aligned images.

    A voxel ``x`` of the fixed scan's plain grid lies at ``y = F x`` in the network's grid, is taken to ``y + u(y)``,
    and from there to the voxel ``M^-1 (y + u(y))`` of the moving scan's plain grid: one field, for one interpolation.

    Args:
        u: ``(*S, D)`` in voxels of the network's grid. Outside of it the values at its border are continued.
        moving_to_network: ``M (D+1, D+1)``, voxels of the moving scan's plain grid to voxels of the network's.
        fixed_to_network: ``F``, the same of the fixed scan.

    Returns:
        ``(*S, D)`` float32 in voxels of the plain grids.
    """
    shape, n_axes = u.shape[:-1], u.shape[-1]
    linear, offset = fixed_to_network[:-1, :-1], fixed_to_network[:-1, -1]
    at = [scipy.ndimage.affine_transform(u[..., k], linear, offset, order=1, mode="nearest") for k in range(n_axes)]
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)
    moved = voxels @ linear.T + offset + np.stack(at, axis=-1)
    back = np.linalg.inv(moving_to_network)
    return (moved @ back[:-1, :-1].T + back[:-1, -1] - voxels).astype(np.float32)
