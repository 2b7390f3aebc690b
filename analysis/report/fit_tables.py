"""The tables of the fits in a report: every parameter with its interval, and the evidence for each optimum."""

from scaling.analysis.judgement.forecast import cost_of
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.report.blocks import Cell, Table, columns, number_cell, value_cell
from scaling.analysis.results.summary import UNDER_SIX_N_D
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import FitEntry, FittedEntry, LossSettings, RefusedEntry, no_interval
from scaling.analysis.schema.intervals import Interval
from scaling.analysis.words import number, sentence, symbol


def parameters(results: Results) -> list[Table]:
    """One table a fit: each parameter with its interval, or the reason why it has no number."""
    headings = columns("parameter", "#value", "interval", "~identification")
    made = []
    for entry in results["fits"]:
        why = "" if entry["status"] == "refused" else no_interval(entry)
        rows = [
            _parameter(entry, name, value, intervals.get(name), why)
            for values, intervals in (
                (entry["params"], entry["intervals"]),
                (entry["derived"], entry["derived_intervals"]),
            )
            for name, value in values.items()
        ]
        rows += _exponents_of_the_optimum(results, entry, why)
        asked = results["settings"]
        weighed = "" if asked["errors"] == "equal" else sentence(asked["errors_words"])
        end = sentence(ended(entry["status"], entry["why"]))
        note = f"{entry['equation']} ({entry['source']}). {end} {weighed}".rstrip()
        made.append(Table(f"{entry['name']} law", headings, rows, note))
    return made


def _parameter(entry: FitEntry, name: str, value: float | None, interval: Interval | None, why: str) -> list[Cell]:
    flag = entry["identification"].get(name)
    known = flag is None or flag["kind"] == "identified"
    if entry["status"] != "refused" and name in entry.get("held", {}):
        return [Cell(symbol(name)), Cell(number(value), value), Cell("none"), Cell("held at this value")]
    return [
        Cell(symbol(name)),
        Cell(number(value), value) if flag is None or known else Cell(flag["kind"].replace("_", " ")),
        Cell(_interval_words(interval, why)),
        Cell(flag["sentence"] if flag else f"for {SIX_N_D}" if name in UNDER_SIX_N_D else ""),
    ]


def _exponents_of_the_optimum(results: Results, entry: FitEntry, why: str) -> list[list[Cell]]:
    if not entry["optimum"]:
        return []
    level, words = results["settings"]["level"], f"at the largest measured compute, for {cost_of(results)}"
    grown = entry["optimum"]["exponents"]
    return [
        [
            Cell(f"exponent of {sign}"),
            Cell(number(one["value"]), one["value"]),
            Cell(
                _interval_words({"low": one["low"], "high": one["high"], "level": level, "method": "percentile"}, why)
            ),
            Cell(words),
        ]
        for sign, one in (("N*", grown["params"]), ("D*", grown["tokens"]))
        if one["value"] is not None
    ]


def ended(status: str, why: str) -> str:
    """The end of a fit in words, with its troubles."""
    return status.replace("_", " ") + (f": {why}" if why else "")


def evidence(results: Results) -> Table:
    """The evidence for each optimum."""
    rows = [_refused(entry, results) if entry["status"] == "refused" else _evidence(entry) for entry in results["fits"]]
    headings = columns(
        "law",
        "status",
        "#objective",
        "loss minimised",
        "#runs",
        "starts agreed",
        "#KKT residual",
        "#condition",
        "at a bound",
        "resamples converged",
        "#AICc",
    )
    return Table("Evidence of each optimum", headings, rows)


def _evidence(entry: FittedEntry) -> list[Cell]:
    found, draws = entry["evidence"], entry["draws"]
    return [
        Cell(entry["name"]),
        Cell(entry["status"].replace("_", " ")),
        value_cell(entry["objective"], lambda value: f"{value:.10g}"),
        Cell(loss_words(entry["loss"])),
        Cell(str(entry["n"]), entry["n"]),
        Cell(f"{found['agreed']} of {found['starts']}"),
        number_cell(found["kkt_residual"]),
        number_cell(found["condition"]),
        Cell(", ".join(found["at_bound"]) or "none"),
        Cell(f"{draws['converged']} of {draws['drawn']}" if draws else "none"),
        number_cell(entry["aicc"]),
    ]


def _refused(entry: RefusedEntry, results: Results) -> list[Cell]:
    loss = Cell(loss_words(results["settings"]["loss"]))
    dash, none = Cell("–"), Cell("none")
    return [Cell(entry["name"]), Cell(entry["status"]), dash, loss, *[dash] * 4, none, none, dash]


def loss_words(loss: LossSettings) -> str:
    """A loss in words: huber (δ = 0.001) on log loss, sum."""
    knee = f" (δ = {loss['delta']:g})" if loss["name"] == "huber" else ""
    return f"{loss['name']}{knee} on {loss['on']} loss, {loss['reduction']}"


def _interval_words(interval: Interval | None, why: str) -> str:
    """An interval with its level and method, or that there is none, and the reason where one is known."""
    if not interval or interval["low"] is None:
        return f"no interval: {why}" if why else "none"
    return f"{number(interval['low'])} to {number(interval['high'])} ({interval['level']:.0%}, {interval['method']})"
