"""Readers of DL3 files: indexes, quirks, checks (floor 3)."""
