"""Instrument responses: evaluate, integrate, interpolate (floor 1)."""
