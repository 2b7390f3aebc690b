"""What a model is trained to predict: examples made from tokens, and the losses on them."""
