"""Trunks and cooldowns: the trunk of each size once, each cooldown from where its rate falls, the rate below."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.analysis.figures import cooldowns, paper
from scaling.analysis.figures.chart import Absent, Chart, Line, Points

WORDS = {"params": "non-embedding parameters", "tokens": "training tokens", "loss": "validation loss, nats per token"}


def curve(run: str, trunk: str, params: float, steps: int, cooldown: int) -> dict[str, Any]:
    """A run of so many steps of 100 tokens, the last ones of which cool down."""
    step = np.arange(1, steps + 1)
    rate = np.where(step > steps - cooldown, (steps - step) / max(cooldown, 1), 1.0)
    loss = 5 * step**-0.1 - 0.2 * (1 - rate)
    return {
        "run_id": run,
        "trunk": trunk,
        "params": params,
        "tokens": (100.0 * step).tolist(),
        "flops": (600.0 * params * step).tolist(),
        "loss": loss.tolist(),
        "val_loss": [None] * (steps - 1) + [float(loss[-1])],
        "learning_rate": (1e-3 * rate).tolist(),
        "points_measured": steps,
    }


def study(*curves: dict[str, Any]) -> Any:
    return {"curves": list(curves), "conventions": WORDS}


BRANCHES = (
    curve("short", "small", 1e4, 100, 20),
    curve("long", "small", 1e4, 300, 60),
    curve("other", "large", 1e5, 100, 20),
    curve("more", "large", 1e5, 200, 40),
    curve("alone", "third", 1e6, 100, 20),
)


def test_a_trunk_is_drawn_once_and_every_cooldown_from_its_start() -> None:
    chart = cooldowns.cooldowns(study(*BRANCHES))
    assert isinstance(chart, Chart)
    above, below = chart.panels
    assert above is not None
    assert below is not None
    lines = [mark for mark in above.marks if isinstance(mark, Line) and len(mark.x)]
    trunks, ends = [one for one in lines if one.width < 1], [one for one in lines if one.width > 1]
    assert [(one.x[0], one.x[-1]) for one in trunks] == [(100, 24_000), (100, 16_000)]
    assert [(one.x[0], one.x[-1]) for one in ends] == [
        (24_000, 30_000),
        (8_000, 10_000),
        (16_000, 20_000),
        (8_000, 10_000),
    ]
    points = [mark for mark in above.marks if isinstance(mark, Points)]
    assert [mark.x.tolist() for mark in points] == [[30_000, 10_000], [20_000, 10_000]]
    rates = [mark for mark in below.marks if isinstance(mark, Line)]
    assert max(float(one.y.max()) for one in rates) == 1e-3
    assert min(float(one.y.min()) for one in rates) == 0.0
    assert "4 runs of 2 trunks:" in chart.caption


def test_trunk_and_rate_are_drawn_on_paper_over_the_same_tokens() -> None:
    chart = cooldowns.cooldowns(study(*BRANCHES))
    assert isinstance(chart, Chart)
    figure = Figure(figsize=(6.5, chart.height))
    paper.draw(chart, figure)
    loss, rate = [axes for axes in figure.axes if axes.get_xscale() == "log" and axes.lines]
    assert loss.get_xlim() == rate.get_xlim()
    assert rate.get_ylabel() == "learning rate"
    assert loss.get_ylabel().replace("\n", " ") == "training loss, nats per token"
    assert max(line.get_xdata().max() for line in loss.lines if len(line.get_xdata())) == 30_000
    assert rate.get_position().y1 <= loss.get_position().y0


def test_runs_without_a_shared_trunk_are_named_absent() -> None:
    alone = cooldowns.cooldowns(study(BRANCHES[0], BRANCHES[4]))
    assert isinstance(alone, Absent)
    assert "hydra.sweeper.branches=true" in alone.why
    older = {name: part for name, part in BRANCHES[0].items() if name not in ("trunk", "learning_rate")}
    assert isinstance(cooldowns.cooldowns(study(older, BRANCHES[1])), Absent)
    assert isinstance(cooldowns.cooldowns(study()), Absent)


def test_seeds_of_one_length_are_no_branches() -> None:
    again = curve("again", "small", 1e4, 100, 20)
    assert cooldowns.trunks([BRANCHES[0], again]) == []  # type: ignore[list-item]
