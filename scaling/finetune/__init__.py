"""Fine-tuning of finished runs on a task, with a control of each shape from random weights; start at `command.py`."""
