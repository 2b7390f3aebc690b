"""Scaling collapse: loss curves of compute-optimal runs fall on one curve, or not, once both axes are normalised.

Qiu, Xiao, Wilson, Pennington and Agarwala 2025 (arXiv 2507.02119): with x the share of a run's compute and L0 the
irreducible loss, l(x) = (L(x) - L0) / (L(1) - L0) of runs of all sizes is one curve where hyperparameters scale well.
Their spread over runs, sd(l) / mean(l), is held against the seed noise of one model, sd(L) / (mean(L) - L0): a smaller
spread, as under a decaying learning rate, is a supercollapse. A curve that departs marks a badly tuned size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.repeats import cells
from scaling.analysis.schema.fits import FitEntry
from scaling.analysis.schema.health import Collapse, CollapseRuns, FloorEntry, Undiagnosed
from scaling.analysis.schema.isoflop import IsoflopSection
from scaling.analysis.schema.numbers import finite, integers, numbers, rows_of
from scaling.analysis.words import count, flops_text, share_text

Array = NDArray[np.float64]

POINTS = 40  # of a normalised curve, evenly over the run
FROM = 0.1  # share of a run from which on curves are compared (assumed: before, the learning rate is still rising)
LEAST_ROWS = POINTS  # of a training curve, so that each point has a row of its own
LEAST_VALIDATIONS = 10  # of every run, for validation losses to be used rather than training losses
LEAST_RUNS = 3  # of different budgets: of two curves, neither is known to depart
TOLERANCE = 0.05  # spread up to which curves are called collapsed where no repeats measure the noise (assumed)
MOST_NOISE = 0.2  # between seeds of one model, beyond which no shape is determined (assumed)
TIGHT_SHARE = 0.9  # of the points of the cooldown that must lie below the seed noise for a supercollapse (assumed)


@dataclass(frozen=True)
class Curves:
    """Loss at evenly spread shares of each run: rows are runs, sorted by budget, seeds of one model side by side."""

    rows: NDArray[np.intp]  # of the observations (r,)
    model: NDArray[np.intp]  # number of each run's model (r,): equal for its seeds
    loss: Array  # (r, POINTS)
    kind: Literal["validation", "training"]  # of the losses

    @property
    def x(self) -> Array:
        """The shares, each the end of its part of the run."""
        return np.arange(1, POINTS + 1) / POINTS


def collapse_section(
    observations: Observations, study: IsoflopSection | None, fits: Sequence[FitEntry]
) -> Collapse | Undiagnosed:
    """The collapse of each budget's best run, or the reason why it is not determined; the leading fit comes first."""
    if observations.curves is None:
        return {"why": "the source holds no training curves, only final losses"}
    floor = _floor(fits)
    if floor is None:
        return {"why": "no fitted law has a constant irreducible loss E to normalise by"}
    models = _optimal(observations, study)
    curves = read_curves(observations, models)
    if curves is None:
        return {
            "why": f"it needs {LEAST_RUNS} budgets whose best rows are ends of runs of their own, which logged "
            f"{LEAST_ROWS} losses or more; {len(models)} of its budgets have a minimum inside their sizes "
            f"(distinct runs that end there: {len(_ended(observations, models))})"
        }
    if why := _undetermined(curves, floor):
        return {"why": why}
    return _describe(observations, curves, floor)


def _undetermined(curves: Curves, floor: FloorEntry) -> str:
    """The reason why these curves lie too near the floor to be divided by their height above it; empty elsewhere."""
    least, highest = float(curves.loss.min()), max(floor["value"], floor["high"] or 0.0)
    if highest >= least:
        end = "" if floor["value"] >= least else ", at the upper end of its interval,"
        return (
            f"the irreducible loss of the {floor['law']} law, {highest:.4g}{end} is no less than {curves.kind} losses "
            f"of these runs, down to {least:.4g}: more budgets would pin it down"
        )
    noise, _ = seed_floor(curves.loss, curves.model, floor["value"])
    if noise is not None and (own := _rms(noise[compared(curves.loss)])) > MOST_NOISE:
        return (
            f"between seeds of one model the {curves.kind} loss above E scatters by {share_text(own, 0)}, more than "
            f"{MOST_NOISE:.0%}: longer runs, or larger batches, would tell shapes apart"
        )
    return ""


def _floor(fits: Sequence[FitEntry]) -> FloorEntry | None:
    """E of the first fit that has one."""
    for entry in fits:
        value = entry["params"].get("E")
        if entry["status"] != "refused" and value is not None:
            ends, flag = entry["intervals"].get("E"), entry["identification"].get("E")
            return {
                "law": entry["name"],
                "value": value,
                "low": None if ends is None else ends["low"],
                "high": None if ends is None else ends["high"],
                "weak": flag["sentence"] if flag and flag["kind"] != "identified" else "",
            }
    return None


def _optimal(observations: Observations, study: IsoflopSection | None) -> list[NDArray[np.intp]]:
    """The rows of each budget's best model, its seeds together; of budgets with a minimum inside their sizes."""
    loss, cell = observations.column("loss"), cells(observations)
    models = []
    for budget in study["budgets"] if study is not None else ():
        rows = np.array(budget["observations"])
        if not budget["edge"]:
            best = min(np.unique(cell[rows]), key=lambda number: float(loss[rows[cell[rows] == number]].mean()))
            models.append(rows[cell[rows] == best])
    return models


def _ended(observations: Observations, models: Sequence[NDArray[np.intp]]) -> dict[str, tuple[int, int]]:
    """The row and the model of each run whose curve ends where its row was measured, and not before or after.

    A run counts once, as its end: its checkpoints in several budgets have one curve, and would agree with themselves.
    """
    assert observations.curves is not None
    last = observations.curves.groupby("run_id", sort=False, observed=True)["tokens"].max().to_dict()
    runs, tokens = observations.table["run_id"].tolist(), observations.column("tokens")
    found: dict[str, tuple[int, int]] = {}
    for k, rows in enumerate(models):
        for row in rows.tolist():
            share = tokens[row] / last.get(runs[row], np.inf)
            if 1 - 1 / POINTS <= share <= 1 / (1 - 1 / POINTS):
                found.setdefault(runs[row], (row, k))
    return found


def read_curves(observations: Observations, models: Sequence[NDArray[np.intp]]) -> Curves | None:
    """The whole curves of these models' runs, all of validation losses or all of training losses; None with too few."""
    assert observations.curves is not None
    curves = observations.curves
    places = curves.groupby("run_id", sort=False, observed=True).indices
    tokens, val_loss, loss = (curves[name].to_numpy(float) for name in ("tokens", "val_loss", "loss"))
    whole = [(row, k, places[run]) for run, (row, k) in _ended(observations, models).items()]
    validated = all(np.count_nonzero(~np.isnan(val_loss[rows])) >= LEAST_VALIDATIONS for _, _, rows in whole)
    losses_of = val_loss if validated else loss
    sampled = [(row, k, _sample(tokens[rows], losses_of[rows], validated=validated)) for row, k, rows in whole]
    kept = [(row, k, losses) for row, k, losses in sampled if losses is not None]
    if len({k for _, k, _ in kept}) < LEAST_RUNS:
        return None
    return Curves(
        np.array([row for row, _, _ in kept]),
        np.array([k for _, k, _ in kept]),
        np.array([losses for _, _, losses in kept]),
        "validation" if validated else "training",
    )


def _sample(tokens: Array, loss: Array, *, validated: bool) -> Array | None:
    """Losses at evenly spread shares of a run: validation losses joined by lines, or means of training losses.

    A logged training loss is itself the mean since the row before. Of two losses at one token count the later counts.
    """
    measured = np.flatnonzero(~np.isnan(loss))
    ordered = measured[np.argsort(tokens[measured], kind="stable")]
    ordered = ordered[np.append(np.diff(tokens[ordered]) > 0, True)] if len(ordered) else ordered
    loss, x = loss[ordered], tokens[ordered]
    at = np.arange(POINTS + 1) / POINTS
    if validated:
        sampled: Array = np.interp(at[1:], x / x[-1], loss)
        return sampled
    if len(loss) < LEAST_ROWS:
        return None
    x = np.append(0.0, x / x[-1])
    total = np.interp(at, x, np.append(0.0, np.cumsum(loss * np.diff(x))))
    means: Array = np.diff(total) * POINTS
    return means


def normalise(loss: Array, floor: float) -> Array:
    """(L(x) - L0) / (L(1) - L0) of curves (r, x)."""
    above = loss - floor
    normalised: Array = above / above[:, -1:]
    return normalised


def spread(normalised: Array) -> Array:
    """The standard deviation over curves at each x, as a share of their mean."""
    relative: Array = normalised.std(axis=0, ddof=1) / normalised.mean(axis=0)
    return relative


def seed_floor(loss: Array, model: NDArray[np.intp], floor: float) -> tuple[Array | None, int]:
    """The spread of losses above L0 over the seeds of one model, pooled, and its degrees of freedom; None without."""
    squares, free = np.zeros(loss.shape[1]), 0
    for k in np.unique(model):
        above = loss[model == k] - floor
        if len(above) > 1:
            squares += ((above - above.mean(axis=0)) ** 2).sum(axis=0) / above.mean(axis=0) ** 2
            free += len(above) - 1
    return (np.sqrt(squares / free), free) if free else (None, 0)


def departures(normalised: Array, model: NDArray[np.intp]) -> tuple[Array, Array]:
    """The distance of each curve from the median of the models', as a share: root mean square and mean (r,)."""
    middle = np.median([normalised[model == k].mean(axis=0) for k in np.unique(model)], axis=0)
    late = compared(normalised)
    off = (normalised / middle - 1)[:, late]
    return np.sqrt((off**2).mean(axis=1)), off.mean(axis=1)


def compared(normalised: Array) -> NDArray[np.bool_]:
    """The points at which curves are compared: from FROM on, and not the last, where all are 1."""
    x = np.arange(1, normalised.shape[1] + 1) / normalised.shape[1]
    kept: NDArray[np.bool_] = (x >= FROM) & (x < 1)
    return kept


def _describe(observations: Observations, curves: Curves, floor: FloorEntry) -> Collapse:
    normalised = normalise(curves.loss, floor["value"])
    late, relative = compared(normalised), spread(normalised)
    noise, free = seed_floor(curves.loss, curves.model, floor["value"])
    size, mean = departures(normalised, curves.model)
    overall = _rms(relative[late])
    allowed = max(TOLERANCE, 0.0 if noise is None else _rms(noise[late]))
    cooldown = _cooldown(observations, curves.rows)
    cooling = late & (curves.x > cooldown) if cooldown is not None else np.zeros(POINTS, dtype=bool)
    tight = noise is not None and bool(cooling.any()) and (relative < noise)[cooling].mean() >= TIGHT_SHARE
    ends = [end for end in (floor["low"], floor["high"]) if end is not None and 0 <= end < curves.loss.min()]
    departing = np.flatnonzero(size > allowed) if overall > allowed else np.array([], dtype=int)
    departing = departing[np.argsort(-size[departing])] if len(departing) else np.array([np.argmax(size)])
    runs = observations.table.iloc[curves.rows]
    section: Collapse = {
        "why": "",
        "x": finite(curves.x),
        "kind": curves.kind,
        "floor": floor,
        "runs": {
            "run_id": runs["run_id"].tolist(),
            "params": finite(runs["params"]),
            "flops": finite(runs["flops"]),
            "model": integers(curves.model),
            "normalised": rows_of(normalised),
            "departure": finite(size),
            "mean_departure": finite(mean),
        },
        "compared_from": FROM,
        "spread": numbers(relative),
        "overall_spread": overall,
        "overall_at_floors": [_rms(spread(normalise(curves.loss, end))[late]) for end in ends],
        "seed_noise": None if noise is None else numbers(noise),
        "overall_seed_noise": None if noise is None else _rms(noise[late]),
        "seed_degrees_of_freedom": free,
        "allowed": allowed,
        "cooldown_from": cooldown,
        "holds": overall <= allowed,
        "tight": bool(tight),
        "departing": integers(departing),
        "verdict": "",
    }
    section["verdict"] = _verdict(section)
    return section


def _cooldown(observations: Observations, rows: NDArray[np.intp]) -> float | None:
    """The share of a run at which the last of these runs begins to cool down; None where no schedule is recorded."""
    names = ("recipe.steps", "recipe.schedule.cooldown_steps", "recipe.schedule.warmup_steps", "recipe.schedule.kind")
    if not set(names) <= set(observations.table.columns):
        return None
    table = observations.table.iloc[rows]
    steps, cooldown, warmup = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in names[:3])
    starts = np.where(table[names[3]] == "cosine", warmup, steps - cooldown) / steps
    return float(starts.max()) if np.isfinite(starts).all() and starts.max() < 1 else None


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def _verdict(section: Collapse) -> str:
    runs, floor = section["runs"], section["floor"]
    noise = section["overall_seed_noise"]
    models = len(set(runs["model"]))
    over = [one for one in section["overall_at_floors"] if (one <= section["allowed"]) != section["holds"]]
    shaky = f", though not for every E in its interval ({share_text(max(over, key=abs))} at an end)" if over else ""
    allowed = (
        f"the {TOLERANCE:.0%} allowed"
        if noise is None or noise < TOLERANCE
        else f"the seed noise of {share_text(noise)}"
    )
    against = "no repeats to hold that against" if noise is None else f"seeds of one model by {share_text(noise)}"
    held = f"{'collapse' if section['holds'] else 'do not collapse'}{shaky}"
    tight = ", and lie within the seed noise while the learning rate falls (supercollapse)" if section["tight"] else ""
    named = "; ".join(_named(runs, k) for k in section["departing"][:3])
    more = f" and {len(section['departing']) - 3} more" if len(section["departing"]) > 3 else ""
    most = "most from the rest departs" if section["holds"] else "furthest from the rest, and perhaps badly tuned,"
    return (
        f"With E = {floor['value']:.3g} of the {floor['law']} law{' (weakly identified)' if floor['weak'] else ''} "
        f"taken off, the {section['kind']} curves of {models} compute-optimal models {held}: they spread by "
        f"{share_text(section['overall_spread'])} ({'within' if section['holds'] else 'beyond'} {allowed}; {against})"
        f"{tight}; {most} {'' if section['holds'] else 'lies '}{named}{more}."
    )


def _named(runs: CollapseRuns, k: int) -> str:
    side = "above" if runs["mean_departure"][k] > 0 else "below"
    return (
        f"{runs['run_id'][k]} ({count(runs['params'][k])} parameters, {flops_text(runs['flops'][k])}) by "
        f"{share_text(runs['departure'][k])}, mostly {side}"
    )
