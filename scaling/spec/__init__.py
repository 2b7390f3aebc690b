"""Everything that decides a run's outcome, and what follows from it before training."""
