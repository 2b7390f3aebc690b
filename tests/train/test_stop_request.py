"""Stop requests count the signals of people and of batch systems."""

import os
import signal

import pytest

from scaling.train.stop_request import StopRequest


def test_a_batch_systems_signals_are_one_request_however_many_come() -> None:
    with StopRequest() as stop:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.count == 1


def test_a_second_ctrl_c_raises_unless_patient() -> None:
    with StopRequest(patient=True) as patient, StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert patient.count == 2


def test_a_signal_reaches_the_request_around() -> None:
    with StopRequest(patient=True) as around:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGUSR2)
        assert around.requested
