"""Training of a run: `loop.py` is the loop, the other files are its parts."""
