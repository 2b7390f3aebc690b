"""Files of runs on disk: attempts, their states, and records."""
