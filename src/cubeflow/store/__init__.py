"""Artifacts, keys and FITS products: whole or absent (floor 3)."""
