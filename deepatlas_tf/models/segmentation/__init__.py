"""Segmentation networks, one file each: ``image (B, *S, 1) -> class probabilities (B, *S, C)``."""
