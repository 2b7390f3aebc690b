"""Hydra launcher `local`: one process a run over this machine's GPUs or cores."""
