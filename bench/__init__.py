"""Measurements of the real functions on the real stack, each beside its floor in the same run."""
