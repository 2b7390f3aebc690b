"""Quantities in words."""

import time

import pytest

from scaling.quantities import until


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (90, "about 90.0 s, until about 12:01"),
        (3600 * 2.5, "about 2.5 h, until about 14:30"),
        (3600 * 13, "about 13.0 h, until about 28 Nov 01:00"),
    ],
)
def test_the_end_of_work_is_a_time_of_day(monkeypatch: pytest.MonkeyPatch, seconds: float, words: str) -> None:
    noon = time.struct_time((2026, 11, 27, 12, 0, 0, 4, 331, -1))
    start = time.mktime(noon)
    monkeypatch.setattr(time, "time", lambda: start)
    assert until(seconds) == words
