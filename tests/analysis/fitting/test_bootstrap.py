"""Intervals: each resample at its own optimum, runs kept whole, the stated coverage, and no false identification."""

import numpy as np
import pytest
from scipy.stats import binom

from scaling.analysis.fitting import fit
from scaling.analysis.fitting.bootstrap import Identification, bootstrap, identify
from scaling.analysis.fitting.fit import Loss
from scaling.analysis.fitting.profile_likelihood import ProfileLikelihood, profile_likelihood
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.law import build
from scaling.analysis.laws.size_and_data import Chinchilla

TRUTH = Chinchilla(**Chinchilla.example)


def study(
    seed: int, budgets: int = 6, sizes: int = 8, checkpoints: int = 2, noise: float = 0.01
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Runs at several sizes of each budget, with noise of the run shared by its checkpoints: x, loss, run, budget."""
    rng = np.random.default_rng(seed)
    C = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    N = TRUTH.optimum(C).N * np.tile(np.geomspace(1 / 6, 6, sizes), budgets)
    run = np.repeat(np.arange(C.size), checkpoints)
    x = {"N": N[run], "D": (C / 6 / N)[run] * np.tile(np.linspace(0.5, 1, checkpoints), C.size)}
    shocks = rng.normal(0, noise, C.size)[run] + rng.normal(0, 0.3 * noise, run.size)
    return x, TRUTH(**x) * np.exp(shocks), run, np.repeat(np.arange(budgets), sizes)[run]


@pytest.mark.parametrize(("name", "loss"), [("chinchilla", Loss()), ("chinchilla", Loss("mse")), ("gamma", Loss())])
def test_every_resample_is_at_its_own_global_optimum(name: str, loss: Loss) -> None:
    x, y, run, _ = study(0)
    found = fit.fit(name, x, y, loss=loss)
    draws = bootstrap(found, x, y, run, n=12, seed=5)
    assert draws.converged.all()
    counts = np.random.default_rng(5).multinomial(48, np.full(48, 1 / 48), size=12)
    for count, law in zip(counts, draws.laws, strict=True):
        alone = fit.fit(name, x, y, loss=loss, weights=count[run].astype(float))
        objective = np.sum(count[run] * loss(np.log(y / law(**x))))
        assert objective == pytest.approx(alone.objective, rel=1e-7)


def test_checkpoints_of_a_run_stay_together() -> None:
    x, y, run, _ = study(1)
    copies = {name: np.tile(v, 3) for name, v in x.items()}
    found = fit.fit("chinchilla", x, y, loss=Loss("mse"))
    thrice = fit.fit("chinchilla", copies, np.tile(y, 3), loss=Loss("mse"))
    whole = bootstrap(found, x, y, run, n=200).interval("E")
    tripled = bootstrap(thrice, copies, np.tile(y, 3), np.tile(run, 3), n=200).interval("E")
    apart = bootstrap(thrice, copies, np.tile(y, 3), n=200).interval("E")
    assert (tripled.low, tripled.high) == pytest.approx((whole.low, whole.high), rel=1e-6)
    assert apart.high - apart.low < 0.8 * (whole.high - whole.low)


def test_a_seed_repeats_and_another_differs() -> None:
    x, y, run, _ = study(2)
    found = fit.fit("chinchilla", x, y)
    one, again, other = (bootstrap(found, x, y, run, n=30, seed=s).values for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_strata_keep_their_number_of_runs() -> None:
    x, y, run, budget = study(3)
    found = fit.fit("power", {"D": x["D"]}, y)
    labels = np.char.add("run-", run.astype(str))
    draws = bootstrap(found, {"D": x["D"]}, y, labels, n=50, strata=budget)
    assert draws.clusters == 48
    assert draws.law.inputs == ("D",)
    with pytest.raises(ValueError, match="a cluster lies in two strata"):
        bootstrap(found, {"D": x["D"]}, y, run, n=5, strata=np.arange(len(y)))


def test_one_run_a_stratum_leaves_nothing_to_resample() -> None:
    x, y, run, _ = study(4)
    found = fit.fit("chinchilla", x, y)
    draws = bootstrap(found, x, y, run, n=5, strata=run)
    np.testing.assert_allclose(draws.values, np.tile(list(found.law.params.values()), (5, 1)), rtol=1e-5)


def test_intervals_of_parameters_derived_quantities_and_functions() -> None:
    x, y, run, _ = study(5)
    draws = bootstrap(fit.fit("chinchilla", x, y), x, y, run, n=100)
    budgets = np.array([1e20, 1e22, 1e24])
    band = draws.interval(lambda law: law.optimum(budgets).loss)
    assert band.low.shape == band.high.shape == (3,)
    assert (band.low < band.high).all()
    single = draws.interval(lambda law: law.optimum(1e22).loss)
    assert (single.low, single.high) == pytest.approx((band.low[1], band.high[1]))
    narrow, wide = draws.interval("a", 0.5), draws.interval("a", 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    one_by_one = [law.derived["a"] for law in draws.laws]
    assert min(one_by_one) <= wide.low
    with pytest.raises(ValueError, match="unknown quantity 'gamma'.*choose from E, A, B, alpha, beta, a, b, G"):
        draws.interval("gamma")
    with pytest.raises(ValueError, match="between 0 and 1"):
        draws.interval("E", 95)


def test_a_quantity_often_undefined_has_no_interval() -> None:
    x, y, run, _ = study(6)
    draws = bootstrap(fit.fit("chinchilla", x, y), x, y, run, n=40)
    often = draws.interval(lambda law: np.where(np.arange(len(law.params["E"]))[:, None] % 4, np.nan, 1.0))
    assert np.isnan(often.low)
    assert np.isnan(bootstrap(fit.fit("chinchilla", x, y), x, y, run, n=3).interval("E").low)


@pytest.mark.long
def test_95_percent_intervals_cover_the_truth_92_to_98_percent_of_the_time() -> None:
    """Simulated studies of 48 runs with run-level noise, target at ten times the largest compute.

    With this many studies a count is a binomial draw: it is refused when a coverage of 92% (98%) would give so low (so
    high) a count less than once in a thousand.
    """
    studies = 100
    asked = {
        "E": lambda law: law.params["E"],
        "alpha": lambda law: law.params["alpha"],
        "beta": lambda law: law.params["beta"],
        "a": lambda law: law.derived["a"],
        "loss at ten times the compute": lambda law: law.optimum(1e22).loss,
    }
    covered = dict.fromkeys(asked, 0)
    for k in range(studies):
        x, y, run, _ = study(1000 + k)
        draws = bootstrap(fit.fit("chinchilla", x, y), x, y, run, n=120, seed=k)
        assert draws.converged.mean() > 0.99
        for name, quantity in asked.items():
            interval = draws.interval(quantity)
            covered[name] += bool(interval.low <= float(quantity(TRUTH)) <= interval.high)
    low, high = binom.ppf(0.001, studies, 0.92), binom.ppf(0.999, studies, 0.98)
    assert all(low <= count <= high for count in covered.values()), covered


def test_ignoring_runs_makes_intervals_too_narrow() -> None:
    x, y, run, _ = study(7, checkpoints=6)
    found = fit.fit("chinchilla", x, y)
    by_run = bootstrap(found, x, y, run, n=200).interval("alpha")
    by_point = bootstrap(found, x, y, n=200).interval("alpha")
    assert by_point.high - by_point.low < 0.7 * (by_run.high - by_run.low)


@pytest.mark.parametrize("loss", [Loss(), Loss("mse"), Loss("mae")], ids=str)
def test_the_profile_is_lowest_at_the_estimate_and_its_interval_matches_the_bootstrap(loss: Loss) -> None:
    x, y, run, _ = study(8, sizes=14)
    found = fit.fit("chinchilla", x, y, loss=loss)
    line = profile_likelihood(found, x, y, "alpha", clusters=run)
    assert (np.diff(line.values) >= 0).all()
    assert line.objective.min() == pytest.approx(found.objective, rel=1e-3)
    assert line.closed == (True, True)
    assert line.low < found.law.params["alpha"] < line.high
    at_ends = np.interp([line.low, line.high], line.values, line.objective)
    np.testing.assert_allclose(at_ends - found.objective, line.threshold - found.objective, rtol=0.1)
    drawn = bootstrap(found, x, y, run, n=300).interval("alpha")
    assert (line.high - line.low) / (drawn.high - drawn.low) == pytest.approx(1.0, abs=0.35)


def test_a_profile_refits_everything_else() -> None:
    """With E held and least squares on the loss, only alpha and beta are nonlinear: a dense grid is a witness."""
    x, y, run, _ = study(9)
    line = profile_likelihood(fit.fit("chinchilla", x, y, loss=Loss("mse", on="linear")), x, y, "E", clusters=run)
    k = int(np.argmin(np.abs(line.values - line.high)))
    excess = y - line.values[k]

    def squares(alpha: float, beta: float) -> float:
        design = np.stack([x["N"] ** -alpha, x["D"] ** -beta], axis=1)
        return float(np.sum((excess - design @ np.linalg.lstsq(design, excess, rcond=None)[0]) ** 2))

    exponents = np.linspace(0.2, 0.6, 60)
    least = min(squares(alpha, beta) for alpha in exponents for beta in exponents)
    assert line.objective[k] <= least
    assert line.objective[k] == pytest.approx(least, rel=0.02)


def test_an_unknown_parameter_to_profile_is_named() -> None:
    x, y, _, _ = study(10)
    with pytest.raises(ValueError, match="unknown parameter 'a' of 'chinchilla'; choose from E, A, B, alpha, beta"):
        profile_likelihood(fit.fit("chinchilla", x, y), x, y, "a")


def judged(
    name: str, x: dict[str, np.ndarray], y: np.ndarray, **profiles: ProfileLikelihood
) -> dict[str, Identification]:
    found = fit.fit(name, x, y)
    return identify(found, bootstrap(found, x, y, n=150), profiles or None)


def test_a_good_design_identifies_every_parameter() -> None:
    x, y, _, _ = study(11, sizes=12, checkpoints=1, noise=0.005)
    flags = judged("chinchilla", x, y)
    assert {flag.kind for flag in flags.values()} == {"identified"}
    assert flags["alpha"].sentence.startswith("alpha is identified: 0.3")


def test_few_noisy_runs_identify_neither_floor_nor_exponents() -> None:
    x, y, _, _ = study(12, budgets=3, sizes=4, checkpoints=1, noise=0.03)
    flags = judged("chinchilla", x, y)
    for name in ("E", "alpha", "beta"):
        assert flags[name].kind in ("weakly identified", "at a bound")
        assert "to" in flags[name].sentence or "edge" in flags[name].sentence


def test_a_flat_profile_makes_a_parameter_weak() -> None:
    x, y, _, _ = study(13, budgets=3, sizes=4, checkpoints=1, noise=0.03)
    found = fit.fit("chinchilla", x, y)
    line = profile_likelihood(found, x, y, "E")
    assert not all(line.closed)
    flag = identify(found, bootstrap(found, x, y, n=60), {"E": line})["E"]
    assert flag.kind in ("weakly identified", "at a bound")
    assert "profile is flat from" in flag.sentence or "edge" in flag.sentence


def test_a_floor_pushed_to_zero_is_at_a_bound() -> None:
    x, _, _, _ = study(14)
    y = 500 * x["N"] ** -0.3 + 3000 * x["D"] ** -0.3 - 0.2
    assert judged("chinchilla", x, y)["E"].kind == "at a bound"


def test_a_parameter_without_effect_is_weakly_identified() -> None:
    x, y, _, _ = study(15)
    flag = judged("data_constrained", {**x, "U": 2 * x["D"]}, y)["R_D_star"]
    assert flag.kind == "weakly identified"
    assert "no observation responds" in flag.sentence


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_law_can_be_resampled(law: type) -> None:
    rng = np.random.default_rng(0)
    x = {name: np.exp(rng.uniform(*np.log(ends), 80)) for name, ends in law.domain.items()}
    y = build(law, law.example)(**x) * np.exp(rng.normal(0, 0.003, 80))
    draws = bootstrap(fit.fit(law, x, y), x, y, n=25)
    assert draws.converged.mean() >= 0.9
    assert draws.values.shape == (25, len(law.example))
