"""Tune before fit: learning rate and batch searched at a few sizes of a sweep, and written as its recipe."""
