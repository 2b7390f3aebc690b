"""Fine-tuning finished runs on a task, each beside the same shape from random weights: `command.py` tells the story."""
