"""Discriminators of a domain, one file each: ``image (B, *S, 1) -> scores (B, *S', 1)``, 1 real and 0 generated."""
