"""Registration networks, one file each: ``[moving (B, *S, C), fixed (B, *S, C)] -> u (B, *S, D)`` in voxels."""
