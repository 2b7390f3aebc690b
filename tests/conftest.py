"""What holds for every test."""

import signal

# A shell without job control starts background commands with Ctrl-C ignored, and they would hand that on to the
# processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
