"""Studies beside the fits: learning-rate searches, coordinate checks, fine-tuning and data transfer."""
