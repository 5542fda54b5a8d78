"""Simulated DL3 stores: plain tables of a generic IACT, and events drawn from them."""
