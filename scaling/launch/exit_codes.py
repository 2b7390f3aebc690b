"""Exit codes of a worker, and of any command that Ctrl-C ends.

A mistake in the arguments, or other code than the plan's, is 2, as for every command.
"""

NOTHING_LEFT, FAILURES_LEFT, MISTAKE, START_AGAIN = 0, 1, 2, 75  # 75: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT
