"""Figures of the compute optimum: params, tokens, loss and tokens per parameter against compute, and the exponent."""

from collections.abc import Callable, Mapping

import numpy as np

from scaling.analysis.figures.chart import (
    BLACK,
    BLUE,
    GREY,
    PALE,
    RED,
    Absent,
    Array,
    Axis,
    Band,
    Chart,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Span,
    array,
    extent,
)
from scaling.analysis.figures.elements import (
    NO_STUDY,
    axis_of,
    banded,
    ends,
    interval_text,
    law_in_use,
    leading_fit,
    loss_axis,
    words_of,
)
from scaling.analysis.figures.isoflop import ESTIMATORS
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FittedEntry
from scaling.analysis.schema.intervals import NO_ENDS, Ends, Quantity
from scaling.analysis.schema.isoflop import IsoflopSection
from scaling.analysis.words import count, flops_text, number

SIGNS: Mapping[Quantity, str] = {"params": "N*", "tokens": "D*", "loss": "L*", "tokens_per_param": "D*/N*"}
SPELLED: Mapping[Quantity, Callable[[float], str]] = {
    "params": count,
    "tokens": count,
    "loss": lambda value: f"{value:.4f}",
    "tokens_per_param": number,
}

# Parameters on which the growth of the optimal size rests.
EXPONENTS = ("alpha", "beta", "alpha_N", "alpha_D", "eta")


def allocation(results: Results) -> Chart | Absent:
    """Optimal params, tokens, loss, and tokens per parameter against compute: minima and laws."""
    title = "Compute-optimal size, tokens and loss"
    lead, study = leading_fit(results), results["isoflop"]
    optimum = lead["optimum"] if lead else None
    if study is None and optimum is None:
        return Absent(title, f"neither a fitted law with an optimum nor an isoFLOP study: {NO_STUDY}")
    least, most = results["range"]["flops"]
    far = max(2 * (results["settings"]["target_flops"] or 0.0), 1.5 * most)
    panels = []
    for name in SIGNS:
        marks = _against_compute(results, name, lead)
        if not marks:
            continue
        x = axis_of(results, "flops", (least / 1.5, far))
        limits = extent(_shown(marks, far, most), log=True, margin=0.08)
        beyond = Span(most, far, label="beyond the data")
        panels.append(Panel(x, _axis(results, name, limits), (beyond, *marks), title=_law_words(study, name)))
    caption = (
        f"What to train at each compute. Bands: {results['settings']['level']:.0%} intervals; the bands of a law "
        "hold its parameters' uncertainty alone, not whether the law holds beyond the data. Stars: minima of the "
        "isoFLOP curves with their intervals; open: on the grid's edge, not used. Above each panel: the power law "
        "through the minima."
    )
    return Chart(title, caption, tuple(panels), 2, height=3.0 * -(-len(panels) // 2))


def _axis(results: Results, name: Quantity, limits: tuple[float, float]) -> Axis:
    if name == "loss":
        return loss_axis(results, limits=limits)
    label = "tokens per parameter" if name == "tokens_per_param" else words_of(results, name)
    return Axis(label, log=True, limits=limits, counts=name != "tokens_per_param")


def _law_words(study: IsoflopSection | None, name: Quantity) -> str:
    """The power law through the minima, with the interval of its exponent."""
    law = law_in_use(study, name)
    if law is None:
        return ""
    found = law["interval"] or NO_ENDS
    within = "" if found["low"] is None or found["high"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    power = f"C^{law['exponent']:.3f}{within}".replace("-", "−")
    return f"{SIGNS[name]} ∝ {power}" if not law["floor"] else f"{SIGNS[name]} − {law['floor']:.3g} ∝ {power}"


def _shown(marks: list[Mark], far: float, most: float) -> Array:
    """The values that the y axis must hold: of lines as far as they are drawn, of bands and points within the data."""
    parts = [array([])]
    for mark in marks:
        if isinstance(mark, Line | Points):
            parts.append(mark.y[mark.x <= far])
        if isinstance(mark, Band):
            parts += [mark.low[mark.x <= most], mark.high[mark.x <= most]]
    found = np.concatenate(parts)
    return found if np.isfinite(found).any() else array([1.0, 2.0])


def _against_compute(results: Results, name: Quantity, lead: FittedEntry | None) -> list[Mark]:
    marks: list[Mark] = []
    optimum, study = lead["optimum"] if lead else None, results["isoflop"]
    if lead is not None and optimum is not None:
        marks += banded(array(optimum["flops"]), optimum[name], RED, "dash", f"{lead['name']} law, optimum")
    law = law_in_use(study, name)
    if study is None:
        return marks
    if law is not None:
        label = f"power law through the {ESTIMATORS[study['used']][0]} minima"
        marks += banded(array(law["band"]["flops"]), law["band"], BLUE, "solid", label)
    return marks + [mark for inside in (True, False) for mark in _minima_of(study, name, inside=inside)]


def _minima_of(study: IsoflopSection, name: Quantity, *, inside: bool) -> list[Mark]:
    used = study["used"]
    found = [
        (budget["budget_flops"], budget["estimates"][used][name])
        for budget in study["budgets"]
        if used in budget["estimates"]
        and budget["estimates"][used][name]["value"] is not None
        and bool(budget["estimates"][used]["edge"]) != inside
    ]
    if not found:
        return []
    spell = SPELLED[name]
    low = array([one["low"] for _, one in found])
    high = array([one["high"] for _, one in found])
    return [
        Points(
            array([flops for flops, _ in found]),
            array([one["value"] for _, one in found]),
            BLACK if inside else GREY,
            "star",
            size=6.0,
            filled=inside,
            front=True,
            y_range=(low, high) if inside else None,
            label="isoFLOP minimum" if inside else "minimum on the grid's edge",
            hover=tuple(
                f"{flops_text(flops)}\n{spell(one['value'])} {interval_text(one, spell)}"
                for flops, one in found
                if one["value"] is not None
            ),
        )
    ]


def exponents(results: Results) -> Chart | Absent:
    """The exponent of N* in compute by every way of finding it."""
    title = "Exponent of the optimal size, by method"
    found: list[tuple[str, float, Ends, str]] = []  # words, exponent, interval, colour
    study, envelope = results["isoflop"], results["envelope"]
    for name, laws in study["laws"].items() if study is not None else ():
        law, (words, color, _) = laws["params"], ESTIMATORS[name]
        if law["exponent"] is not None:
            found.append((f"isoFLOP, {words}", law["exponent"], law["interval"] or NO_ENDS, color))
    for entry in results["fits"]:
        own = entry["optimum"]["exponents"]["params"] if entry["optimum"] else None
        if own is not None and own["value"] is not None:
            flags = [flag["kind"] for name, flag in entry["identification"].items() if name in EXPONENTS]
            doubt = "" if set(flags) <= {"identified"} else " (not identified)"
            found.append((f"{entry['name']} law{doubt}", own["value"], own, BLACK))
    for method, fitted in envelope["laws"].items() if envelope is not None else ():
        found.append((f"envelope, {method}", fitted["exponent"], fitted["interval"] or NO_ENDS, GREY))
    if not found:
        return Absent(title, "no method found how the optimal size grows with compute")
    marks: list[Mark] = [Rule(0.5, upright=True, color=PALE, dash="dash", label="N* and D* grow alike (0.5)")]
    for row, (words, value, interval, color) in enumerate(found):
        text = f"{words}: {value:.3f} {interval_text(interval, lambda v: f'{v:.3f}')}"
        marks.append(
            Points(
                array([value]),
                array([row]),
                color,
                "circle",
                size=5.5,
                x_range=ends(interval),
                filled=not words.endswith("(not identified)"),
                hover=(text,),
                front=True,
            )
        )
    panel = Panel(
        Axis("exponent a of N* ∝ C^a"),
        Axis("", limits=(len(found) - 0.5, -0.5), names=tuple(words for words, *_ in found)),
        tuple(marks),
    )
    caption = (
        f"How fast the optimal size, in {words_of(results, 'params')}, grows with {words_of(results, 'flops')}, with "
        f"{results['settings']['level']:.0%} intervals where one is stated."
    )
    return Chart(title, caption, (panel,), height=0.9 + 0.27 * len(found))
