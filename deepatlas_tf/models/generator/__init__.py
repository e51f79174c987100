"""Translations into another domain, one file each: ``image (B, *S, 1) -> image (B, *S, 1)``, both in [0, 1]."""
