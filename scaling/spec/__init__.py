"""The spec of a run: every setting that decides its outcome, and what follows from these before training."""
