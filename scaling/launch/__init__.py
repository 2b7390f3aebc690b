"""Launching of many runs: sweeps, their jobs and stacks, and the launchers that run them."""
