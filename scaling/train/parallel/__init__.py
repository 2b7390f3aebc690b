"""A run over several devices: the ranks, the process that leads them, and the processes that follow."""
