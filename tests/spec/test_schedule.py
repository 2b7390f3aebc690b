"""Learning-rate schedules, step by step."""

import math

import pytest

from scaling.spec.run_spec import ScheduleSpec
from scaling.spec.schedule import learning_rate_factor


def factors(schedule: ScheduleSpec, steps: int) -> list[float]:
    return [learning_rate_factor(schedule, step, steps) for step in range(steps)]


def test_wsd_warms_up_holds_and_cools_down() -> None:
    got = factors(ScheduleSpec("wsd", 4, 5, "linear", 0.0), 20)
    assert got[:4] == [pytest.approx(k / 5) for k in (1, 2, 3, 4)]
    assert got[4:15] == [1.0] * 11
    assert got[15:] == [pytest.approx(k / 6) for k in (5, 4, 3, 2, 1)]


def test_one_minus_sqrt_falls_faster_at_first_than_linear() -> None:
    sqrt = factors(ScheduleSpec("wsd", 0, 10, "1-sqrt", 0.0), 20)
    linear = factors(ScheduleSpec("wsd", 0, 10, "linear", 0.0), 20)
    assert all(a < b for a, b in zip(sqrt[10:], linear[10:], strict=True))
    assert sqrt[10] == pytest.approx(1 - math.sqrt(1 / 11))


def test_cosine_reaches_its_final_fraction() -> None:
    got = factors(ScheduleSpec("cosine", 10, 0, "cosine", 0.1), 1000)
    middle = 10 + 990 // 2
    assert got[middle] == pytest.approx(0.55, abs=2e-3)
    assert 0.1 < got[-1] < 0.1001


@pytest.mark.parametrize("kind", ["wsd", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_no_step_is_spent_at_a_rate_of_zero_or_above_the_peak(kind: str, warmup: int) -> None:
    shape = "1-sqrt" if kind == "wsd" else "cosine"
    got = factors(ScheduleSpec(kind, warmup, 0 if kind == "cosine" else 13, shape, 0.0), 20)
    assert all(0 < factor <= 1 for factor in got)
