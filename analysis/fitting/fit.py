"""Fit a law to observations: the global optimum of the objective asked for, with the evidence for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.analysis.fitting.checks import check
from scaling.analysis.fitting.kink import sharpen
from scaling.analysis.fitting.knees import cross_knees
from scaling.analysis.fitting.misfit import Loss, Origin, Problem, pose
from scaling.analysis.fitting.newton import Local, Minimum, minimise
from scaling.analysis.fitting.starts import grid_starts
from scaling.analysis.laws import law_named
from scaling.analysis.laws.held import Bounds, hold
from scaling.analysis.laws.jet import Array
from scaling.analysis.laws.law import Law, build
from scaling.analysis.schema.fits import FitStatus

HUBER = Loss()  # Hoffmann et al. 2022, approach 3: delta = 1e-3 on the log loss
STARTS = 8
MORE_STARTS = 32  # where fewer than AGREEMENT of the first starts end at the best minimum
AGREEMENT = 3
ACCEPTED_RESIDUAL = 1e-6  # KKT residual (a cosine) above which an end point is not called a minimum
PATIENCE = 3000  # steps allowed to a search that has not converged in the usual number
FOLLOWED = 3  # of the searches, the lowest, which cross the knees and are given that many where the best is lost
NEAR_BEST = 1.02  # a smoothed minimum within this factor of the best is followed to its kink
BLIND_CONDITION = 1e7  # condition of the tangent beyond which some direction of the parameters is not seen at all

__all__ = ["Evidence", "Fit", "Loss", "check", "fit"]


@dataclass(frozen=True)
class Evidence:
    """The evidence that the end point is the global optimum.

    residual: the KKT residual, the largest cosine between the residual scores and a coordinate's direction;
    for an absolute loss, the relative decrease that the linearised problem still promises per unit step. No
    units. condition: condition number of the tangent with unit columns, over parameters not at a bound.
    """

    starts: int
    agreed: int
    residual: float
    at_bound: tuple[str, ...]
    unseen: tuple[str, ...]
    condition: float
    iterations: int


@dataclass(frozen=True)
class Fit:
    """A fitted law with how the search ended.

    residuals: log observed minus log predicted, in observation order, whatever the loss; nan where undefined.
    """

    law: Law
    status: FitStatus
    why: str  # empty when converged
    objective: float
    residuals: Array
    n: int
    loss: Loss
    evidence: Evidence
    start: Array = field(repr=False)  # internal coordinates of the optimum, for refits that begin here
    origin: Origin = field(repr=False)  # of these coordinates' units

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def fit(
    law: str | type[Law],
    x: Mapping[str, ArrayLike],
    y: ArrayLike,
    *,
    loss: Loss = HUBER,
    weights: ArrayLike | None = None,
    fix: Mapping[str, float] | None = None,
    bounds: Mapping[str, Bounds] | None = None,
) -> Fit:
    """Return the law that minimises the weighted sum of penalties over the observations, with evidence.

    x: raw columns (n,) by the law's variables; a law of one variable takes its name from here. y: (n,), raw.
    law: a class, a name, or a formula over the columns of x. weights: (n,), such as 1 / standard error squared. fix
    holds parameters at values, bounds keep them between (low, high), in raw units. ValueError names the fault of
    unusable data.
    """
    cls = hold(law_named(law, tuple(x)) if isinstance(law, str) else law, fix, bounds)
    variable, columns, observed, weight = check(cls, x, y, loss, weights)
    posed = pose(cls, columns, observed, loss, weight)
    with np.errstate(all="ignore"):  # a trial may overflow: then worth infinity, and not taken
        ends = _search_from_grid(posed)
        if not ends.residual[_best(ends)] < ACCEPTED_RESIDUAL:
            # A steep term acts at the smallest values alone: in units of the middle its valley is a narrow curve.
            other = pose(cls, columns, observed, loss, weight, "least")
            again = _search_from_grid(other)
            if again.local.value[_best(again)] <= ends.local.value.min() * (1 + 1e-9):
                posed, ends = other, again
    return report(posed, ends, variable, columns, observed, weight)


def _search_from_grid(problem: Problem) -> Minimum:
    ends = search(problem, grid_starts(problem, STARTS))
    if _at_the_best(ends).sum() < AGREEMENT:
        ends = _together(ends, search(problem, grid_starts(problem, MORE_STARTS)))
    return ends


def search(problem: Problem, starts: Array) -> Minimum:
    """Return the local minima reached from each of the starts, shape (S, p)."""
    low, high = problem.bounds
    widths = problem.loss.widths(problem.unit)
    ends = minimise(problem, starts, low, high, frozen=problem.frozen, smoothing=widths)
    if problem.loss.has_kink:
        return _at_the_kink(problem, ends)
    lowest = np.argsort(ends.local.value, kind="stable")[:FOLLOWED]
    lost = lowest[~(ends.residual[lowest] < ACCEPTED_RESIDUAL)]
    if lost.size and lost[0] == lowest[0]:
        begin = cross_knees(problem, ends.q[lost], lost) if problem.loss.has_knees else ends.q[lost]
        again = minimise(
            problem, begin, low, high, frozen=problem.frozen, smoothing=widths[-1:], max_iterations=PATIENCE
        )
        ends = _together(_rows(ends, np.setdiff1d(np.arange(len(starts)), lost)), again)
    return ends


def _rows(ends: Minimum, rows: NDArray[np.intp]) -> Minimum:
    local = Local(*(getattr(ends.local, name)[rows] for name in Local.__dataclass_fields__))
    return Minimum(ends.q[rows], local, ends.residual[rows], ends.held[rows], ends.iterations[rows])


def _together(one: Minimum, two: Minimum) -> Minimum:
    def joined(a: Any, b: Any, name: str) -> Any:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    local = Local(*(joined(one.local, two.local, name) for name in Local.__dataclass_fields__))
    others = {name: joined(one, two, name) for name in ("q", "residual", "held", "iterations")}
    return Minimum(local=local, **others)


def _best(ends: Minimum) -> int:
    """Return the lowest of the minima; of end points that are none, where there is no minimum."""
    best = int(np.argmin(np.where(ends.residual < ACCEPTED_RESIDUAL, ends.local.value, np.inf)))
    return best if ends.residual[best] < ACCEPTED_RESIDUAL else int(np.argmin(ends.local.value))


def _at_the_best(ends: Minimum) -> NDArray[np.bool_]:
    value = ends.local.value
    return np.asarray((value <= value[_best(ends)] * (1 + 1e-6) + 1e-20) & (ends.residual < ACCEPTED_RESIDUAL))


def _at_the_kink(problem: Problem, ends: Minimum) -> Minimum:
    """Return the minima with those near the best followed to the exact kink."""
    low, high = problem.bounds
    q, value, residual = ends.q.copy(), ends.local.value.copy(), np.full(len(ends.q), np.inf)
    for k in np.flatnonzero(value <= NEAR_BEST * value.min()):
        q[k], value[k], residual[k] = sharpen(problem, q[k])
    held = (q <= low) | (q >= high) | problem.frozen
    return replace(ends, q=q, local=replace(ends.local, value=value), residual=residual, held=held)


def report(
    problem: Problem,
    ends: Minimum,
    variable: str,
    columns: Mapping[str, Array],
    observed: Array,
    weight: Array,
) -> Fit:
    """Return the Fit at the best of the minima, unscaled, with its evidence."""
    best = _best(ends)
    q, names = ends.q[best], problem.names
    at_bound = tuple(
        n for n, held, frozen in zip(names, ends.held[best], problem.frozen, strict=True) if held & ~frozen
    )
    condition, unseen = _sight(problem, q, ends.held[best])
    law = build(problem.law, dict(zip(names, problem.raw_params(q[None])[0].tolist(), strict=True)), variable)
    if {"N", "D"} <= set(columns):
        per_param = columns["D"] / columns["N"]
        law = law.tried_at((float(per_param.min()), float(per_param.max())))
    with np.errstate(all="ignore"):
        predicted = np.broadcast_to(law(**_as_given(law, columns)), observed.shape)
        ratio = observed / predicted
        residuals = np.log(np.where(ratio > 0, ratio, np.nan))
    penalised = residuals if problem.loss.on == "log" else observed - predicted
    evidence = Evidence(
        len(ends.q),
        int(_at_the_best(ends).sum()),
        float(ends.residual[best]),
        at_bound,
        unseen,
        condition,
        int(ends.iterations.sum()),
    )
    objective = float(np.sum(weight * problem.loss(penalised)))
    status, why = _verdict(evidence, objective)
    return Fit(law, status, why, objective, residuals, len(observed), problem.loss, evidence, q, problem.origin)


def _as_given(law: Law, columns: Mapping[str, Array]) -> dict[str, Array]:
    return {given: columns[own] for own, given in zip(law.variables, law.inputs, strict=True)}


def _sight(problem: Problem, q: Array, held: Array) -> tuple[float, tuple[str, ...]]:
    """Return the condition number of the tangent and the parameters that no observation responds to."""
    tangent = problem.tangent(q) * np.sqrt(problem.row_weights)
    size = np.sqrt(np.sum(tangent**2, axis=1))
    blind = size <= 1e-9 * size.max()
    unseen = tuple(name for name, b in zip(problem.names, blind & ~problem.frozen, strict=True) if b)
    free = ~(held | blind)
    if not free.any():
        return np.inf, unseen
    singular = np.linalg.svd(tangent[free] / size[free, None], compute_uv=False)
    if singular[-1] * BLIND_CONDITION > singular[0]:
        return float(singular[0] / singular[-1]), unseen
    # the directions not seen at all, and which parameters take part in them
    _, values, directions = np.linalg.svd((tangent[free] / size[free, None]).T, full_matrices=False)
    dark = directions[values * BLIND_CONDITION <= values[0]]
    part = (np.abs(dark) > 0.1).any(axis=0)
    lost = np.array(problem.names)[free][part]
    return float(values[0] / max(values[-1], 1e-300)), unseen + tuple(map(str, lost))


def _verdict(evidence: Evidence, objective: float) -> tuple[FitStatus, str]:
    if evidence.residual < ACCEPTED_RESIDUAL and not np.isfinite(objective):
        return "did_not_converge", "its parameters grow beyond all numbers; the law may not suit the data"
    if not evidence.residual < ACCEPTED_RESIDUAL:
        return "did_not_converge", (
            f"KKT residual {evidence.residual:.1e} after {evidence.iterations} steps "
            f"from {evidence.starts} starts; "
            "the law may not suit the data"
        )
    notes = []
    if evidence.unseen:
        notes.append(f"the observations do not determine {', '.join(evidence.unseen)}")
    if evidence.at_bound:
        notes.insert(0, f"at the edge of its range: {', '.join(evidence.at_bound)}")
        return "at_bound", "; ".join(notes)
    return "converged", "; ".join(notes)


def _lines(result: Fit) -> list[str]:
    law, evidence = result.law, result.evidence
    status = result.status.replace("_", " ")
    lines = [f"{law.name}: {law.equation}  ({law.source})"]
    for name, value in law.params.items():
        if name in law.held:
            lines.append(f"  {name} = {value:.6g}  (held)")
        elif name in evidence.unseen:
            lines.append(f"  {name} is not determined by these observations")
        else:
            lines.append(f"  {name} = {value:.6g}{'  (at its bound)' if name in evidence.at_bound else ''}")
    if not evidence.unseen:
        lines += [f"  {name} = {value:.6g}  (derived)" for name, value in law.derived.items()]
    width = f", delta {result.loss.delta:g}" if result.loss.name == "huber" else ""
    lines += [
        f"  {result.loss.name} loss on {result.loss.on} residuals{width}, summed over n = {result.n}: "
        f"{result.objective:.9g}",
        f"  {status}{': ' + result.why if result.why else ''}; "
        f"{evidence.agreed} of {evidence.starts} starts agree, "
        f"KKT residual {evidence.residual:.1e}, condition {evidence.condition:.3g}",
    ]
    return lines
