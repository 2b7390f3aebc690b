"""The compute envelope of training curves: what it finds, what it leaves out, and when it warns."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.isoflop.envelope import cooldown_warnings, lower_hull, measure
from scaling.analysis.runs.observations import Observations, load
from tests.analysis.simulated import TRUTH, write_study


def curves(folder: Path, *, sizes: int = 24, noise_nats: float = 0.0) -> Observations:
    """Long runs of many sizes, each a curve along the law itself, so that the envelope's exponent is the
    law's a.
    """
    rng = np.random.default_rng(0)
    rows = []
    for k, params in enumerate(np.geomspace(3e4, 3e7, sizes)):
        for tokens in np.geomspace(1e6, 1e10, 200):
            loss = float(TRUTH(N=params, D=tokens)) + noise_nats * rng.standard_normal()
            rows.append((f"run{k:02d}", params, tokens, loss))
    path = folder / "curves.csv"
    pd.DataFrame(rows, columns=["run_id", "params", "tokens", "loss"]).to_csv(path, index=False)
    return load(path, curves=True)


def test_the_envelopes_exponent_is_the_laws(tmp_path: Path) -> None:
    found = measure(curves(tmp_path, noise_nats=0.002), seed=0, level=0.95, draws=60)
    assert found is not None
    law = found.laws["binned"]
    assert law["exponent"] == pytest.approx(float(TRUTH.derived["a"]), abs=0.03)
    assert law["interval"]["low"] < float(TRUTH.derived["a"]) < law["interval"]["high"]
    assert found.laws["hull"]["exponent"] == pytest.approx(float(TRUTH.derived["a"]), abs=0.06)


def test_the_envelope_touches_the_lowest_curve_in_every_bin(tmp_path: Path) -> None:
    observations = curves(tmp_path)
    found = measure(observations, seed=0, level=0.95, draws=2)
    assert found is not None
    best = TRUTH.optimum(found.flops[found.interior])
    assert (found.loss[found.interior] >= np.asarray(best.loss) - 0.03).all()
    assert found.loss[found.interior] == pytest.approx(np.asarray(best.loss), rel=0.02)


def test_hull_points_are_below_every_chord() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.random(50))
    y = (x - 0.4) ** 2 + 0.05 * rng.random(50)
    kept = lower_hull(x, y)
    assert {0, 49} <= set(kept.tolist())
    assert (y >= np.interp(x, x[kept], y[kept]) - 1e-12).all()
    slopes = np.diff(y[kept]) / np.diff(x[kept])
    assert (np.diff(slopes) > 0).all()


def test_a_point_on_a_chord_is_no_corner_of_the_hull() -> None:
    assert lower_hull(np.arange(5.0), np.array([2.0, 1.0, 0.0, 1.0, 2.0])).tolist() == [0, 2, 4]


def test_the_exponents_interval_leaves_out_as_much_below_as_above(tmp_path: Path) -> None:
    """An interval of level 0 is then the median of the draws, one of level 1 their whole range."""
    observations = curves(tmp_path)
    none, half, whole = (
        found.laws["binned"]["interval"]
        for level in (0.0, 0.5, 1.0)
        if (found := measure(observations, seed=0, level=level, draws=20)) is not None
    )
    assert none["low"] == none["high"]
    assert whole["low"] < half["low"] < none["low"] < half["high"] < whole["high"]


def test_cooldown_warns_and_a_constant_rate_does_not(tmp_path: Path) -> None:
    cooled = load(write_study(tmp_path / "cooled", points=20), curves=True)
    (warning,) = cooldown_warnings(cooled)
    assert "28 of 28 runs cool their learning rate down (wsd)" in warning
    assert "trust the isoFLOP optima" in warning
    flat = load(write_study(tmp_path / "flat", points=20, cooldown=False), curves=True)
    assert cooldown_warnings(flat) == []
    found = measure(cooled, seed=0, level=0.95, draws=5)
    assert found is not None
    assert found.warnings == (warning,)


def test_an_unrecorded_schedule_is_said(tmp_path: Path) -> None:
    assert "schedule is not recorded" in cooldown_warnings(curves(tmp_path, sizes=4))[0]


def test_without_curves_there_is_no_envelope(tmp_path: Path) -> None:
    assert measure(load(write_study(tmp_path / "s", points=4)), seed=0, level=0.95) is None
    assert measure(curves(tmp_path, sizes=2), seed=0, level=0.95) is None
