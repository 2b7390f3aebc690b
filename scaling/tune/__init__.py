"""Tuning before fitting: learning rate and batch are searched at a few sizes of a sweep and written as its recipe."""
