"""Training objectives: batches of inputs and targets made from tokens, and the losses on them."""
