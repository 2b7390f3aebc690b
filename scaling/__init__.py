"""Scaling-law experiments with transformers: design, train, record."""

__version__ = "0.2.0"
