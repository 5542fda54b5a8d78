"""Readers of DL3 files: indexes, quirks, checks; and a simulator that writes them (floor 3)."""
