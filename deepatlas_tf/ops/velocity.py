"""Integration of a stationary velocity field by scaling and squaring."""

from deepatlas_tf.ops.warp import warp
from deepatlas_tf.types import Tensor


def integrate(velocity: Tensor, n_steps: int = 7) -> Tensor:
    """Displacement field of the flow of a stationary velocity field at time 1.

    Starts from ``u = v / 2**n`` and composes it with itself ``n`` times, ``u(x) <- u(x) + u(x + u(x))`` (Arsigny et
    al., MICCAI 2006). voxelmorph's ``VecInt`` uses the same scheme.

    Args:
        velocity: ``(B, *S, D)`` in voxels for each unit of time.
        n_steps: ``n``, the number of squarings.

    Returns:
        displacement field ``(B, *S, D)`` in voxels.
    """
    u = velocity / 2.0**n_steps
    for _ in range(n_steps):
        u = u + warp(u, u)
    return u
