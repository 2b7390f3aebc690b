"""Replay `scaling next` on known pools: python -m tests.benchmarks.next_runs --table next.json --figure next.png.

Every strategy holds the pool's cheapest runs and buys others until 5, 10 or 20% of the whole pool's FLOPs are spent;
the rms error of the target's forecast over pools is beside that of all data. Pools are grids simulated from a law, with
the optimum at ten times the largest budget as target and the expected error by the delta method, and published runs
where they lie beside the checkout, with good runs at the largest budget held out as targets and the error measured
there. The table keeps families that were replayed before.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.analysis.figures import paper
from scaling.analysis.figures.chart import CATEGORY_COLORS, Axis, Chart, Line, Mark, Panel, Points, Rule, marker
from scaling.analysis.laws.size_and_data import Chinchilla, Gamma, PowerMean
from tests.analysis.design.replay import SHARES, Pool, isoflop_pool, replay
from tests.published import CHINCHILLA, FOLDER, PORIAN

BUDGETS = (1e17, 3.16e17, 1e18, 3.16e18, 1e19)
BOTH = ("chinchilla", "gamma")
NOISE = 0.004
TARGETS = 4  # held-out runs of published data, a pool each


def chinchilla(pools: int) -> list[Pool]:
    truth = Chinchilla(E=1.9, A=120.0, B=900.0, alpha=0.35, beta=0.37)
    return [isoflop_pool("chinchilla", truth, noise=NOISE, seed=k, budgets=BUDGETS) for k in range(pools)]


def gamma(pools: int) -> list[Pool]:
    truth = Gamma(**Gamma.example)
    return [isoflop_pool("gamma", truth, noise=NOISE, seed=k, budgets=BUDGETS, laws=BOTH) for k in range(pools)]


def power_mean(pools: int) -> list[Pool]:
    truth = PowerMean(**PowerMean.example)
    return [isoflop_pool("power mean", truth, noise=NOISE, seed=k, budgets=BUDGETS, laws=BOTH) for k in range(pools)]


def hoffmann(pools: int) -> list[Pool]:
    table = pd.read_csv(CHINCHILLA).query("epoch_excluded == 0")
    return held_out("Hoffmann et al. 2022", table, table["flops"] > 5e21, 0.01)[:pools]


def porian(pools: int) -> list[Pool]:
    table = pd.read_csv(PORIAN)
    found = []
    for name, one in table.groupby("series"):
        found += held_out(str(name), one, one["flops"] > 0.6 * one["flops"].max(), NOISE)[:1]
    return found[:pools]


def held_out(name: str, table: pd.DataFrame, top: "pd.Series[bool]", noise: float) -> list[Pool]:
    """Pools of the runs below the top, each with one of the best runs of the top as its target."""
    below, best = table[~top], table[top].nsmallest(TARGETS, "loss")
    params, tokens, loss = (below[column].to_numpy(dtype=float) for column in ("params", "tokens", "loss"))
    pilot = np.argsort(params * tokens, kind="stable")[: max(16, len(below) // 6)]
    targets = best[["params", "tokens", "loss"]].itertuples(index=False)
    return [Pool(name, params, tokens, loss, tuple(map(float, one)), pilot, noise, BOTH) for one in targets]


FAMILIES: dict[str, Callable[[int], list[Pool]]] = {
    "chinchilla": chinchilla,
    "gamma": gamma,
    "power mean": power_mean,
    "Hoffmann et al.": hoffmann,
    "Porian et al.": porian,
}


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    print(f"{name}: all data {found['all data']['1.0']:.2%}")
    for strategy, errors in found.items():
        if strategy != "all data":
            print(f"  {strategy:<16s}" + "".join(f"{errors[str(share)]:9.2%}" for share in SHARES))


def chart(found: dict[str, dict[str, dict[str, float]]]) -> Chart:
    x = 100 * np.array(SHARES)
    panels = []
    for name, errors in found.items():
        marks: list[Mark] = [Rule(100 * errors["all data"]["1.0"], dash="dash", label="all data")]
        for k, strategy in enumerate(one for one in errors if one != "all data"):
            y = 100 * np.array([errors[strategy][str(share)] for share in SHARES])
            color = CATEGORY_COLORS[k]
            marks += [Line(x, y, color), Points(x, y, color, marker(k), 5, label=strategy)]
        axes = (
            Axis("share of the whole price, %", log=True, limits=(4.0, 25.0)),
            Axis("error of the target, %", log=True),
        )
        panels.append(Panel(*axes, tuple(marks), name))
    caption = "The rms error of the target's forecast after each strategy has spent a share of the FLOPs of all runs."
    rows = math.ceil(len(panels) / 3)
    return Chart("Buying runs by design", caption, tuple(panels), min(len(panels), 3), height=2.6 * rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", type=int, default=8, help="of a family (default: %(default)s)")
    parser.add_argument("--only", choices=FAMILIES, help="one family")
    parser.add_argument("--table", type=Path, default=Path("next.json"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    found = json.loads(options.table.read_text()) if options.table.exists() else {}
    for name, pools in FAMILIES.items():
        if options.only not in (None, name) or name in found:
            continue
        if "et al." in name and not FOLDER.exists():
            print(f"{name}: not replayed, since {FOLDER} is absent")
            continue
        errors = replay(pools(options.pools))
        found[name] = {one: {str(share): value for share, value in by.items()} for one, by in errors.items()}
        options.table.write_text(json.dumps(found, indent=1))
    for name, errors in found.items():
        show(name, errors)
    if options.figure:
        paper.save_png(chart(found), options.figure)


if __name__ == "__main__":
    main()
