"""Anybody's runs as one validated table, and how its runs group into budgets, repeats and comparable parts."""
