"""The figure of registered forecasts: each interval against the loss that its run measured."""

import numpy as np

from scaling.analysis.figures.chart import BLUE, GREY, RED, Absent, Axis, Chart, Mark, Panel, Points, Rule, array
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.registered import GradeEntry, RegisteredForecast
from scaling.analysis.words import flops_text, sentence

TITLE = "Forecasts registered before their runs"
MOST_SHOWN = 24


def grades(results: Results) -> Chart | Absent:
    """Every registered forecast as an interval about its own value, and the measured loss of a finished run."""
    section = results.get("registered")
    shown = [] if section is None else [one for one in section["entries"] if one["forecast"] is not None][-MOST_SHOWN:]
    if section is None or not shown:
        return Absent(TITLE, "no forecast was registered; `scaling predict STUDY --flops C --register` writes one")
    places = np.arange(len(shown), dtype=float)[::-1]
    marks: list[Mark] = [Rule(0.0, upright=True, dash="dash"), *_forecasts(shown, places), *_measured(shown, places)]
    names = tuple(_name(one) for one in reversed(shown))
    height = 1.3 + 0.32 * len(shown)
    x = Axis("measured loss, % above or below the forecast")
    caption = (
        "Bars: registered intervals. Diamonds: the measured loss, red outside the interval; hollow where the run had "
        f"started before the registration. {sentence(section['words'])}"
    )
    y = Axis("", limits=(-0.6, len(shown) - 0.4), names=names)
    return Chart(TITLE, caption, (Panel(x, y, tuple(marks)),), height=height)


def _forecasts(shown: list[GradeEntry], places: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[Mark]:
    stated = [_forecast(one) for one in shown]
    value = array([one["loss"]["value"] for one in stated])
    low, high = (array([one["loss"][end] for one in stated]) for end in ("low", "high"))
    texts = tuple(f"{_name(one)}, {_forecast(one)['method']['name']}\n{one['words']}" for one in shown)
    ends = (100 * (low / value - 1), 100 * (high / value - 1))
    return [Points(np.zeros(len(shown)), places, BLUE, "square", label="forecast", hover=texts, x_range=ends)]


def _measured(shown: list[GradeEntry], places: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[Mark]:
    marks: list[Mark] = []
    for inside, late, color, label in (
        (True, False, BLUE, "measured, inside"),
        (False, False, RED, "measured, outside"),
        (None, False, GREY, "measured, no interval"),
        (None, True, GREY, "measured, started before"),
    ):
        kept = [
            (one, place, one["error"])
            for one, place in zip(shown, places, strict=True)
            if (one["state"] == "late") == late and (late or one["inside"] is inside)
        ]
        found = [(one, place, 100 * (1 / (1 + error) - 1)) for one, place, error in kept if error is not None]
        if found:
            entries, at, off = zip(*found, strict=True)
            texts = tuple(one["words"] for one in entries)
            marks.append(
                Points(array(off), array(at), color, "diamond", 7, not late, label=label, hover=texts, front=True)
            )
    return marks


def _forecast(entry: GradeEntry) -> RegisteredForecast:
    assert entry["forecast"] is not None
    return entry["forecast"]


def _name(entry: GradeEntry) -> str:
    forecast = _forecast(entry)
    return f"{flops_text(forecast['target']['flops'])}, {forecast['registered_at'][:10]}"
