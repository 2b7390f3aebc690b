"""Hydra sweeper `isoflop`: budgets x shapes x axes, priced and capped; only missing runs are trained."""
