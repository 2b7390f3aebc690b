"""The cost of serving a finished run's model: latency, throughput, memory and stored bytes, measured here."""
