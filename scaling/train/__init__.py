"""Training one run: `loop.py` tells the story, the other files are its parts."""
