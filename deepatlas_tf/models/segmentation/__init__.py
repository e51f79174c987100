"""Segmentation networks, one file each: ``image (B, *S, K) -> class probabilities (B, *S, C)``."""
