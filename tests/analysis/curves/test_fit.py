"""Fits of whole curves: known laws are recovered, and no other solver finds a lower objective."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import least_squares

from scaling.analysis.curves.course import MOST_DROPS, Array
from scaling.analysis.curves.fit import Points, Prior, fit_curves
from scaling.analysis.curves.laws import CURVE_LAWS
from scaling.analysis.schema.whole_curves import CurveLawName
from scaling.spec.run_spec import ScheduleSpec
from tests.analysis.curves import simulated
from tests.analysis.curves.simulated import CONSTANT, COSINE, LINEAR, PEAK, ROOT, WARMUP, course_of

TRUTHS: dict[CurveLawName, tuple[Callable[..., Array], dict[str, float]]] = {
    "annealing": (simulated.annealing, simulated.ANNEALING),
    "multi_power": (simulated.multi_power, simulated.MULTI_POWER),
}


def curve(name: CurveLawName, schedule: ScheduleSpec, noise: float = 0.0, seed: int = 0) -> Points:
    """The losses of a known law after every fifth update, from a twelfth of the run on."""
    course = course_of(schedule)
    law, known = TRUTHS[name]
    places = np.arange(50.0, 601.0, 5.0)
    losses = law(PEAK * course.factors, schedule.warmup_steps, known)[places.astype(int) - 1]
    scatter = np.exp(noise * np.random.default_rng(seed).normal(size=len(places)))
    return Points(course, places, losses * scatter, np.ones(len(places)))


@pytest.mark.parametrize("name", TRUTHS)
def test_a_known_law_is_recovered_where_every_drop_counts_alone(name: CurveLawName) -> None:
    short = ScheduleSpec("wsd", WARMUP, MOST_DROPS - 4, "linear", 0.0)
    fit = fit_curves(CURVE_LAWS[name], [curve(name, CONSTANT), curve(name, short)])
    assert fit.parameters(PEAK) == pytest.approx(TRUTHS[name][1], rel=1e-5)


@pytest.mark.parametrize("name", TRUTHS)
def test_constant_and_linear_curves_predict_other_schedules_where_drops_are_joined(name: CurveLawName) -> None:
    fit = fit_curves(CURVE_LAWS[name], [curve(name, CONSTANT), curve(name, LINEAR)])
    for schedule in (ROOT, COSINE):
        other = curve(name, schedule)
        assert np.log(fit.loss(other.course, other.places) / other.losses) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", TRUTHS)
def test_no_other_solver_finds_a_lower_objective(name: CurveLawName) -> None:
    law = CURVE_LAWS[name]
    curves = [curve(name, CONSTANT, 2e-3), curve(name, LINEAR, 2e-3, seed=1)]
    fit = fit_curves(law, curves)
    assert fit.is_minimum
    seen = [one.course.until(one.places) for one in curves]

    def residuals(q: Array) -> Array:
        parts = [np.asarray(law.loss(q[None], one, fit.unit).value)[0] for one in seen]
        losses = [one.losses / fit.unit.loss for one in curves]
        return np.concatenate([p / y - 1 for p, y in zip(parts, losses, strict=True)])

    assert 0.5 * np.sum(residuals(fit.q) ** 2) == pytest.approx(fit.objective, rel=1e-9)
    drawn, (low, high) = np.random.default_rng(0), law.bounds
    span = np.minimum(high, 1.5) - low
    for _ in range(3):
        start = low + span * drawn.uniform(0.05, 0.95, len(low))
        other = least_squares(residuals, start, bounds=(low, high), x_scale="jac", max_nfev=100)
        assert other.cost >= fit.objective * (1 - 1e-7)


@pytest.mark.parametrize("name", TRUTHS)
def test_slopes_are_those_of_finite_differences(name: CurveLawName) -> None:
    fit = fit_curves(CURVE_LAWS[name], [curve(name, LINEAR, 2e-3)])
    course = course_of(COSINE)
    slope = fit.slope(course, 500.0)
    for k in range(len(fit.q)):
        moved = []
        for step in (1e-6, -1e-6):
            q = fit.q.copy()
            q[k] += step
            found = CURVE_LAWS[name].loss(q[None], course.until([500.0]), fit.unit)
            moved.append(float(np.log(np.asarray(found.value)).item()))
        assert slope[k] == pytest.approx((moved[0] - moved[1]) / 2e-6, abs=1e-6)


def test_a_curve_of_constant_rate_states_no_gain_and_a_prior_gives_one() -> None:
    law, points = CURVE_LAWS["annealing"], curve("annealing", CONSTANT)
    alone = fit_curves(law, [points])
    assert alone.is_minimum
    assert alone.parameters(PEAK)["C"] == 0.0
    prior = Prior(np.array([0.0, 0.0, 0.05, -0.5, 4.0]), np.array([0.0, 0.0, 1e4, 1.0, 1.0]))
    weighted = Points(points.course, points.places, points.losses, 1e5 * points.weights)
    assert fit_curves(law, [weighted], prior).q[2] == pytest.approx(0.05)
