"""Computing a large volume block by block on all cores, so that memory stays bounded."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deepatlas_tf.processor import usable_cores

BLOCK_VOXELS = 2**18


def by_blocks(function: Callable[[slice], np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Compute a volume of :data:`BLOCK_VOXELS` voxels at a time.

    Args:
        function: takes a slice of the first axis and returns that part of the result, as long along its first axis.
            Its other axes may have any size.
        shape: of the volume, whose first axis is cut.

    Returns:
        The parts, joined along the first axis.
    """
    step = max(1, BLOCK_VOXELS // max(1, int(np.prod(shape[1:]))))
    blocks = [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
    first = function(blocks[0])
    result = np.empty((shape[0], *first.shape[1:]), first.dtype)
    result[blocks[0]] = first

    def put(rows):
        result[rows] = function(rows)

    # NumPy's arithmetic and SciPy's interpolation let other threads run
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(put, blocks[1:]))
    return result
