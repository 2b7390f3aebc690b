"""One law fitted to observations: its global optimum with the evidence for it, and its intervals."""
