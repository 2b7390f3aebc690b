"""Searches with known optima, judged."""

import math
from typing import Any

import numpy as np
import pytest

from scaling.analysis.figures import tuning
from scaling.analysis.figures.chart import Chart, Points, Rule
from scaling.analysis.studies.parabola import fit_curve
from scaling.analysis.studies.tuning import judge, rule

RECIPE = {
    "learning_rate": {"value": 2e-2, "params": -0.3, "tokens": 0.1, "flops": 0.0, "at_least": None, "at_most": 1e-2},
    "batch_tokens": {"value": 1e-3, "params": 0.0, "tokens": 1.0, "flops": 0.0, "at_least": None, "at_most": None},
}
TRUE = {"value": 8.7e-3, "params": -0.45, "tokens": 0.264, "flops": 0.0}
SCALES = [(3e3, 2e5), (1e4, 1e5), (1e4, 4e5), (4e4, 8e4), (4e4, 4e5), (3e3, 1e6)]


def cell(params: float, tokens: float, best: float, noise: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """A cell whose loss is a parabola in log learning rate about `best` and in log batch about half the recipe's."""
    draws = np.random.default_rng((seed, int(params), int(tokens)))
    scale = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
    base = {arm: rule(RECIPE[arm], scale) for arm in RECIPE}
    points = []
    for k in range(-3, 4):
        rate = best * 2.0 ** (k + 0.3)
        loss = 2.5 + 0.05 * math.log(rate / best) ** 2 + noise * draws.normal()
        points.append(
            {"arm": "learning_rate", "learning_rate": rate, "loss": loss} | {"batch_tokens": base["batch_tokens"]}
        )
    for k in (-2, -1, 0, 1):
        batch = base["batch_tokens"] * 2.0**k
        loss = 2.5 + 0.02 * math.log(2 * batch / base["batch_tokens"]) ** 2 + noise * draws.normal()
        points.append({"arm": "batch_tokens", "learning_rate": best, "batch_tokens": batch, "loss": loss})
    for i, point in enumerate(points):
        point |= {"run_id": f"{params:g}-{tokens:g}-{i}", "status": "done"}
    return {"shape": "1x1/1", "budget_flops": scale["flops"], **scale, "base": base, "points": points}


def study(noise: float = 0.0, seed: int = 0, scales: Any = None) -> list[dict[str, Any]]:
    return [cell(n, d, rule(TRUE, {"params": n, "tokens": d, "flops": 1.0}), noise, seed) for n, d in scales or SCALES]


def test_a_known_law_is_recovered_and_follows_the_batch_that_was_found() -> None:
    laws = judge("s", study(), RECIPE)["laws"]
    assert laws["batch_tokens"]["value"] == pytest.approx(0.5e-3, rel=1e-6)
    rate = laws["learning_rate"]
    assert (rate["params"], rate["tokens"]) == pytest.approx((TRUE["params"], TRUE["tokens"]), rel=1e-6)
    assert rate["value"] == pytest.approx(TRUE["value"] * math.sqrt(0.5), rel=1e-6)
    assert rate["at_most"] is None
    assert not rate["kept"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(40):
        document = judge("s", study(0.003, seed), RECIPE)
        assert document["noise_nats"] == pytest.approx(0.003, rel=0.7)
        held += [
            one["learning_rate"]["low"] < rule(TRUE, one) < one["learning_rate"]["high"] for one in document["cells"]
        ]
    assert 0.93 <= np.mean(held) <= 0.99


def test_an_exponent_that_the_cells_do_not_tell_stays_the_recipes() -> None:
    one_ratio = [(n, 20 * n) for n in (3e3, 6e3, 1e4, 2e4, 4e4, 1e5)]
    rate = judge("s", study(scales=one_ratio), RECIPE)["laws"]["learning_rate"]
    assert rate["kept"] == ["tokens"]
    assert rate["tokens"] == pytest.approx(RECIPE["learning_rate"]["tokens"])
    assert rate["params"] == pytest.approx(TRUE["params"] + TRUE["tokens"] - rate["tokens"], rel=1e-6)


def test_without_a_minimum_the_recipes_law_stands_whole() -> None:
    cells = study()
    for one in cells:
        one["points"] = [p for p in one["points"] if p["learning_rate"] < 0.5 * rule(TRUE, one)]
    document = judge("s", cells, RECIPE)
    assert {one["learning_rate"]["edge"] for one in document["cells"]} == {"high"}
    law = document["laws"]["learning_rate"]
    assert {name: law[name] for name in RECIPE["learning_rate"]} == RECIPE["learning_rate"]
    assert "no cell fixes a learning rate" in law["why"]


@pytest.mark.parametrize(
    ("losses", "edge", "bounded"),
    [
        ([3.0, 2.5, 2.4, 2.5, 3.0], "", True),
        ([2.4, 2.5, 2.7, 3.0, 3.5], "low", False),
        ([3.5, 3.0, 2.7, 2.5, 2.4], "high", False),
        ([3.5, 3.0, 2.7, 2.5, None], "", False),  # what diverged is the upper limit: no point in going on
        ([3.0, 2.6, 2.5, 2.6, None], "", True),
        ([None] * 5, "low", False),
        ([2.5, None, None, None, None], "low", False),
    ],
)
def test_a_minimum_at_an_edge_asks_for_more_on_that_side(losses: list[float | None], edge: str, bounded: bool) -> None:
    curve = fit_curve([1, 2, 4, 8, 16], losses)
    assert (curve.edge, curve.bounded) == (edge, bounded)


def test_a_wall_far_from_the_minimum_does_not_move_it() -> None:
    near = [2.45, 2.41, 2.40, 2.41, 2.45]
    steep = [2.9, 2.41, 2.40, 2.41, 3.4]
    assert fit_curve([1, 2, 4, 8, 16], near).at == pytest.approx(math.log(4), abs=1e-9)
    assert fit_curve([1, 2, 4, 8, 16], steep).at == pytest.approx(math.log(4), abs=0.1)


def test_a_valley_that_noise_could_have_made_has_no_interval() -> None:
    flat = fit_curve([1, 2, 4, 8, 16], [2.401, 2.399, 2.400, 2.399, 2.402])
    assert flat.interval(0.003, 10, 0.95) is None
    ends = flat.interval(1e-5, 10, 0.95)
    assert ends is not None
    assert ends[0] < flat.at < ends[1]


def test_the_figure_draws_runs_minima_and_both_choices() -> None:
    document = judge("s", study(0.003), RECIPE)
    drawn = tuning.chart(document)
    assert isinstance(drawn, Chart)
    panels = [panel for panel in drawn.panels if panel is not None]
    assert len(panels) == len(SCALES)
    stars = [m for panel in panels for m in panel.marks if isinstance(m, Points) and m.marker == "star"]
    assert sorted(float(star.x[0]) for star in stars) == pytest.approx(
        sorted(one["learning_rate"]["value"] for one in document["cells"])
    )
    rules = [m.at for m in panels[0].marks if isinstance(m, Rule)]
    first = min(document["cells"], key=lambda one: float(one["budget_flops"]))["learning_rate"]
    assert rules == [first["recipe"], first["law"]]
