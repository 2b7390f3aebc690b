"""Launching many runs: which devices there are, and a pool of processes over them."""
