"""Hydra sweeper `isoflop`: budgets x shapes x axes, priced, capped, and trained only where something is missing."""
