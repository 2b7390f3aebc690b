"""What runs leave on disk: attempts, states and records."""
