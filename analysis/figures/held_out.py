"""Predicted against measured at held-out budgets: the forecasts of the smaller budgets' runs for the larger ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    CATEGORY_COLORS,
    GREY,
    Absent,
    Axis,
    Chart,
    Line,
    Panel,
    Points,
    array,
    extent,
    marker,
)
from scaling.analysis.figures.elements import NO_STUDY, loss_axis, words_of
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.isoflop import BudgetEntry, CurveModel
from scaling.analysis.schema.judgement import Predicted
from scaling.analysis.words import count, flops_text, percent

TITLE = "Predicted against measured at held-out budgets"
SPELLED: Mapping[Predicted, Callable[[float], str]] = {"loss": lambda value: f"{value:.4f}", "params": count}


@dataclass(frozen=True)
class Forecast:
    """A prediction of a held-out budget's optimum, with its measured value."""

    forecaster: str
    quantity: Predicted
    measured: float
    predicted: float
    trained_to_flops: float
    tested_at_flops: float
    is_headline: bool  # whether it is the log mean's, which answers


def predicted(results: Results) -> Chart | Absent:
    """N* and L* of every held-out budget, as predicted from the smaller budgets alone, against its minimum."""
    study = results["isoflop"]
    if study is None:
        return Absent(TITLE, NO_STUDY)
    found = list(_forecasts(results, study["budgets"], study["used"]))
    if not found:
        return Absent(TITLE, "no budget was held out: a roll-out takes three budgets and resamples")
    names = list(dict.fromkeys(one.forecaster for one in sorted(found, key=lambda one: one.is_headline)))
    panels = [
        _panel(results, [one for one in found if one.quantity == quantity], quantity, names)
        for quantity in ("loss", "params")
        if any(one.quantity == quantity for one in found)
    ]
    alone = results["forecast"].get("ensemble") is None
    caption = (
        f"Each {'law' if alone else 'forecaster'}, fitted to the budgets below a cut, at every larger budget, against "
        "the isoFLOP minimum measured there. Dashed: predicted as measured; dotted: "
        f"{OFF['loss']:.0%} off in the loss, {OFF['params']:.0%} off in N*."
        + (" In the loss a law is off by its mean error over the budget's runs." if alone else "")
    )
    return Chart(TITLE, caption, tuple(panels), len(panels), height=3.9)


OFF: Mapping[Predicted, float] = {"loss": 0.05, "params": 0.25}  # share off, which dotted lines show


def _panel(results: Results, found: list[Forecast], quantity: Predicted, names: list[str]) -> Panel:
    values = array([value for one in found for value in (one.measured, one.predicted)])
    low, high = extent(values, log=True, margin=0.08)
    ends = np.array([low, high])
    marks: list[Line | Points] = [Line(ends, ends, BLACK, "dash", width=1.0)]
    marks += [
        Line(ends, ends * factor, GREY, "dot", width=0.9) for factor in (1 + OFF[quantity], 1 / (1 + OFF[quantity]))
    ]
    for k, name in enumerate(names):
        mine = [one for one in found if one.forecaster == name]
        if not mine:
            continue
        first = mine[0].is_headline
        color, shape = (BLACK, "star") if first else (CATEGORY_COLORS[k % len(CATEGORY_COLORS)], marker(k))
        marks.append(
            Points(
                array([one.measured for one in mine]),
                array([one.predicted for one in mine]),
                color,
                shape,
                size=6.0 if first else 4.6,
                label=name,
                front=first,
                opacity=1.0 if first else 0.85,
                hover=tuple(map(_text, mine)),
            )
        )
    words = words_of(results, quantity)
    if quantity == "params":
        return Panel(
            Axis(f"measured N*, {words}", log=True, limits=(low, high), counts=True),
            Axis("predicted N*", log=True, limits=(low, high), counts=True),
            tuple(marks),
        )
    y = loss_axis(results, limits=(low, high), labelled=False)
    return Panel(
        Axis(f"measured L*, {words}", log=True, limits=(low, high)),
        Axis("predicted L*", log=True, limits=(low, high), other=y.other),
        tuple(marks),
    )


def _text(one: Forecast) -> str:
    spell = SPELLED[one.quantity]
    return (
        f"{one.forecaster}\nfitted up to {flops_text(one.trained_to_flops)}, at {flops_text(one.tested_at_flops)}\n"
        f"predicted {spell(one.predicted)}, measured {spell(one.measured)}\n"
        f"{percent(one.predicted / one.measured - 1)}"
    )


def _forecasts(results: Results, budgets: list[BudgetEntry], used: CurveModel) -> Iterator[Forecast]:
    """The roll-outs of the forecasters, or of the laws that answer without them."""
    section, holdout = results["forecast"].get("ensemble"), results["holdout"]
    if section is not None:
        members = {member["name"] for member in section["members"]}
        for trial in section["predictions"]:
            for quantity in ("loss", "params"):
                measured = _minimum(budgets, used, quantity, trial["tested_at_flops"])
                if measured is not None:
                    error = trial[quantity]
                    yield Forecast(
                        trial["forecaster"],
                        quantity,
                        measured,
                        measured * float(np.exp(-error)),
                        trial["trained_to_flops"],
                        trial["tested_at_flops"],
                        trial["forecaster"] not in members,
                    )
        return
    for one in holdout["predictions"] if holdout is not None else ():
        measured = _minimum(budgets, used, one["quantity"], one["tested_at_flops"])
        if measured is not None and one["bias"] is not None:
            off = measured * float(np.exp(-one["bias"]))
            cut = (one["trained_to_flops"], one["tested_at_flops"])
            yield Forecast(one["law"], one["quantity"], measured, off, *cut, is_headline=False)


def _minimum(budgets: list[BudgetEntry], used: CurveModel, quantity: Predicted, flops: float) -> float | None:
    """The measured minimum of the budget at a compute; None where it lies on the grid's edge."""
    nearest = min(budgets, key=lambda budget: abs(np.log(budget["budget_flops"] / flops)))
    estimate = nearest["estimates"].get(used if used != "surface" else "parabola")
    if estimate is None or estimate["edge"] or abs(np.log(nearest["budget_flops"] / flops)) > 0.1:
        return None
    return estimate[quantity]["value"]
