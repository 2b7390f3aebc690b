"""What a finished run's model costs to serve: its latency, throughput, memory and stored bytes, measured here."""
