"""Measures on relevance maps: NumPy in, NumPy out."""
