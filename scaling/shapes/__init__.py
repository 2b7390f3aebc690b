"""Model dimensions and their matmuls, of which parameters and FLOPs are both sums."""
