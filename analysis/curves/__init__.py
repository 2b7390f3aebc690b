"""Laws of whole curves: the loss at every step from the learning rates so far; fits, hold-outs and ends of runs."""
