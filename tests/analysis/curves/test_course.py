"""Courses of the learning rate: sums and drops, against sums step by step."""

import numpy as np
import pytest

from scaling.analysis.curves.course import MOST_DROPS, joined
from scaling.spec.run_spec import ScheduleSpec
from tests.analysis.curves.simulated import CONSTANT, COSINE, LINEAR, ROOT, WARMUP, course_of


@pytest.mark.parametrize("schedule", [CONSTANT, LINEAR, ROOT, COSINE])
def test_sums_of_rates_and_drops_are_those_of_the_schedule(schedule: ScheduleSpec) -> None:
    course = course_of(schedule)
    seen = course.until([10.0, 450.5, 600.0])
    assert seen.rate_sum[[0, 2]] == pytest.approx([course.factors[:10].sum(), course.factors.sum()])
    assert seen.rate_sum[1] == pytest.approx(course.factors[:450].sum() + 0.5 * course.factors[450])
    assert seen.summed(np.ones((1, len(seen.drop))))[0, 2] == pytest.approx(1.0 - course.factors[-1], abs=1e-3)
    assert len(seen.drop) <= 3 * MOST_DROPS


def test_the_rise_of_the_warm_up_is_no_drop() -> None:
    assert not course_of(CONSTANT).until([600.0]).drop.size
    assert not course_of(LINEAR).until([float(WARMUP + 5)]).drop.size


def test_drops_ahead_count_nothing_and_drops_behind_have_their_age() -> None:
    seen = course_of(LINEAR).until([449.0, 460.0])
    assert seen.place.tolist() == [1] * len(seen.drop)
    assert seen.steps.max() == pytest.approx(10, abs=1.1)
    assert seen.steps.min() > 0
    assert (seen.rates < seen.steps).all()
    assert seen.log_rate.max() < 0


def test_places_of_several_courses_stand_below_each_other() -> None:
    parts = [course_of(CONSTANT).until([100.0, 200.0]), course_of(COSINE).until([300.0])]
    both = joined(parts)
    ones = np.ones((1, len(both.drop)))
    assert both.rate_sum.tolist() == [*parts[0].rate_sum, *parts[1].rate_sum]
    assert both.summed(ones)[0].tolist() == [0.0, 0.0, parts[1].summed(ones)[0, 0]]
