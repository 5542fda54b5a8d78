"""Artifacts, FITS products and keys (floor 3)."""
