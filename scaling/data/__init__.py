"""Data preparation: text or token files become fixed training and validation tokens, and batches of them."""
