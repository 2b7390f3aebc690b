"""Runs priced before anything starts: order, cap, shared trunks, stacks, and the tables that show them."""
