"""The proposal of runs: a target, its interval before and after, and whether new cells or repeats are worth more."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from scaling.analysis.design.acquisition import Bought, buy
from scaling.analysis.design.candidates import Cell, candidates
from scaling.analysis.design.uncertainty import Believed, believed, covariance, misfit_of
from scaling.analysis.health.seed_noise import measure
from scaling.analysis.judgement.holdout import LEVEL, Z_LEVEL
from scaling.analysis.runs.observations import Observations
from scaling.analysis.schema.forecast import Given
from scaling.analysis.schema.intervals import Estimated
from scaling.analysis.schema.proposal import Proposal, ProposedRun
from scaling.analysis.words import count, flops_text, listed, share_text

REACH_FLOPS = 10.0
MOST_REPEATS = 8  # of a cell in one purchase; more average noise where the laws' own misfit is left
ALIKE = 0.9  # share of the other's half-width below which one way of spending is clearly better


def propose(
    observations: Observations,
    target: Mapping[Given, float],
    budget: float,
    *,
    laws: Sequence[str],
    width: float = 0.0,
    seed: int = 0,
    price_of: Callable[[Cell], float] | None = None,
) -> Proposal:
    """The runs that lower the variance of the target's log loss most for `budget` FLOPs.

    With `price_of` a run costs what that states, in the budget's unit; cells then end at the target's FLOPs, or at
    REACH_FLOPS times the largest run's. `width` stops the purchase once the interval is within so large a share of the
    forecast either way. ValueError where no law suits the runs, and where the budget buys no run.
    """
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"--budget must be positive and finite, got {budget:g}")
    runs = (observations.column("params"), observations.column("tokens"))
    trusted = believed(*runs, observations.column("loss"), laws, seed=seed)
    params, tokens = _point(observations, trusted, target)
    noise, noise_words = _noise(observations, trusted)
    flops = observations.column("flops")
    most = float(max(REACH_FLOPS * flops.max(), observations.cost.flops(params, tokens)))
    cells = candidates(observations, budget if price_of is None else most)
    price = np.array([one.flops if price_of is None else price_of(one) for one in cells])
    if not (price <= budget).any():
        cheapest = (
            f"the cheapest of these runs took {flops.min():.3g} FLOPs"
            if price_of is None
            else f"the cheapest costs {price.min():.3g} in the unit of --price"
        )
        raise ValueError(f"--budget {budget:g} buys no run: {cheapest}")
    ahead = (np.array([*(one.params for one in cells), params]), np.array([*(one.tokens for one in cells), tokens]))
    spread = covariance(trusted, runs, ahead, noise, misfit_of(trusted, noise))
    enough = (np.log1p(width) / Z_LEVEL) ** 2
    bought = buy(spread, price, budget, noise=noise**2, most=[MOST_REPEATS] * len(cells), enough=enough)
    trained = [10**6 if one.trained else 0 for one in cells]
    repeats = buy(spread, price, budget, noise=noise**2, most=trained, enough=enough)
    if repeats.variance[-1] < bought.variance[-1]:  # single picks are greedy, and may miss the better set
        bought = repeats
    loss = float(np.exp(sum(one.weight * np.log(float(one.fit.law(N=params, D=tokens))) for one in trusted)))
    before, after, repeated = (_interval(loss, v) for v in (spread[-1, -1], bought.variance[-1], repeats.variance[-1]))
    chosen = _runs(cells, bought)
    return {
        "target": {**target},
        "params": params,
        "tokens": tokens,
        "level": LEVEL,
        "before": before,
        "after": after,
        "repeats_only": repeated,
        "laws": {one.fit.law.name: one.weight for one in trusted},
        "noise": noise,
        "noise_words": noise_words,
        "price": float(sum(one["flops"] * len(one["seeds"]) for one in chosen)),
        "budget": budget,
        "runs": chosen,
        "words": _words(chosen, bought, repeats, width),
    }


def _point(
    observations: Observations, trusted: Sequence[Believed], target: Mapping[Given, float]
) -> tuple[float, float]:
    """The size and tokens of a target; of a compute, the optimum of the law that weighs most."""
    for name, value in target.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"--target {name}={value:g}: must be positive and finite")
    if set(target) == {"params", "tokens"}:
        return target["params"], target["tokens"]
    if set(target) == {"flops"}:
        best = max(trusted, key=lambda one: one.weight).fit.law.optimum(target["flops"], observations.cost)
        return float(best.N), float(best.D)
    given = " ".join(target) or "nothing"
    raise ValueError(f"--target takes flops=C, or params=N with tokens=D; got {given}")


def _noise(observations: Observations, trusted: Sequence[Believed]) -> tuple[float, str]:
    """The sd of one run's log loss, by seeds where some were repeated, else by the best law's residuals."""
    loss = observations.column("loss")
    found = measure(observations, LEVEL)
    if found is not None:
        sd = found.pooled_sd / float(loss.mean())
        return sd, f"one run's loss scatters by {share_text(sd, 2)}, as seeds measure it"
    best = max(trusted, key=lambda one: one.weight).fit
    free = max(len(loss) - len(best.law.declared()), 1)
    sd = max(float(np.sqrt(np.nansum(best.residuals**2) / free)), 1e-6)
    words = "by the residuals of the best law, misfit included, since no two runs differ in their seed alone"
    return sd, f"one run's loss scatters by {share_text(sd, 2)}, {words}"


def _interval(loss: float, variance: float) -> Estimated:
    half = Z_LEVEL * float(np.sqrt(max(variance, 0.0)))
    return {"value": loss, "low": loss * float(np.exp(-half)), "high": loss * float(np.exp(half))}


def _runs(cells: Sequence[Cell], bought: Bought) -> list[ProposedRun]:
    found = []
    for pick in dict.fromkeys(bought.picks):
        cell, times = cells[pick], bought.picks.count(pick)
        found.append(
            ProposedRun(
                params=cell.params,
                tokens=cell.tokens,
                flops=cell.flops,
                shape=list(cell.shape),
                seeds=list(range(cell.next_seed, cell.next_seed + times)),
                trained=cell.trained,
            )
        )
    return found


def _half(variance: float) -> float:
    return float(np.expm1(Z_LEVEL * np.sqrt(max(variance, 0.0))))


def _words(chosen: Sequence[ProposedRun], bought: Bought, repeats: Bought, width: float) -> list[str]:
    before, after, repeated = (_half(v) for v in (bought.variance[0], bought.variance[-1], repeats.variance[-1]))
    if width and before <= width:
        return [f"the interval is ±{share_text(before, 2)} already, within ±{share_text(width, 2)}: buy nothing"]
    words = [f"the interval shrinks from ±{share_text(before, 2)} to ±{share_text(after, 2)}"]
    if width:
        met = after <= width
        words.append(
            f"the asked ±{share_text(width, 2)} is met, and buying stops there"
            if met
            else f"the asked ±{share_text(width, 2)} is not met by this budget"
        )
    if any(len(one["seeds"]) == MOST_REPEATS for one in chosen):
        words.append(f"no cell is bought more than {MOST_REPEATS} times: beyond, another size or budget teaches more")
    if after < ALIKE * repeated:
        words.append(f"widen the grid: repeats of trained cells alone would reach ±{share_text(repeated, 2)}")
    elif all(one["trained"] for one in chosen):
        words.append("repeat: no new size or budget lowers the variance more than repeats of trained cells do")
    else:
        words.append(f"repeats of trained cells alone would do about as well, ±{share_text(repeated, 2)}")
    return words


def lines(proposal: Proposal) -> list[str]:
    """A proposal in lines."""
    asked = listed([f"{name} = {value:.4g}" for name, value in proposal["target"].items()])
    laws = listed([f"{name} ({weight:.0%})" for name, weight in proposal["laws"].items()])
    head = [
        f"target: {asked}, a run of {count(proposal['params'])} parameters on {count(proposal['tokens'])} tokens",
        f"laws: {laws}; {proposal['noise_words']}",
        *(f"{name}: loss {_stated(proposal[key])}" for name, key in (("now", "before"), ("then", "after"))),  # type: ignore[literal-required]
    ]
    rows = [
        f"  {count(one['params'])} parameters on {count(one['tokens'])} tokens, {flops_text(one['flops'])}"
        + (f", {one['shape'][0]}x{one['shape'][1]}/{one['shape'][2]}" if one["shape"] else "")
        + f": {len(one['seeds'])} run{'s' if len(one['seeds']) > 1 else ''}"
        + (f" (has {one['trained']})" if one["trained"] else " (new)")
        for one in proposal["runs"]
    ]
    spent = f"buy {sum(len(one['seeds']) for one in proposal['runs'])} runs, {proposal['price']:.4g} FLOPs in all:"
    return [*head, *([spent, *rows] if rows else []), *proposal["words"]]


def _stated(loss: Estimated) -> str:
    return f"{loss['value']:.4g} [{loss['low']:.4g}, {loss['high']:.4g}]"
