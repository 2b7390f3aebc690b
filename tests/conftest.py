"""What holds for every test."""

import os
import signal

# Every core has a worker of the tests already: a second thread in each would only wait for the others. NumPy, torch and
# the processes that tests start read this variable once, when they are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control starts background commands with Ctrl-C ignored, and they would hand that on to the
# processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
