"""The tables of the report, from a results document alone: columns, and cells with words and a value to sort by."""

from collections.abc import Mapping

from scaling.analysis.judgement.forecast import cost_of
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.report.blocks import Cell, Table, columns, interval_cell, number_cell, percent_cell, value_cell
from scaling.analysis.results.summary import UNDER_SIX_N_D
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import MemberPrediction
from scaling.analysis.schema.fits import FitEntry, FittedEntry, LossSettings, RefusedEntry, no_interval
from scaling.analysis.schema.intervals import NO_ENDS, Interval, Quantity
from scaling.analysis.schema.isoflop import PowerLawEntry
from scaling.analysis.schema.judgement import CHOICES
from scaling.analysis.words import count, flops_text, number, percent, scientific, sentence, symbol

MOST_ROWS = 2_000  # of one table, in the page; all are in results.json
QUANTITIES: Mapping[Quantity, str] = {"params": "N*", "tokens": "D*", "loss": "loss", "tokens_per_param": "D*/N*"}


def budgets(results: Results) -> Table:
    """Every budget's minimum by the curve model in use, with its edge warning and the parabola's own bias."""
    study = results["isoflop"]
    rows = []
    for budget in study["budgets"] if study is not None else ():
        one = budget["estimates"].get(study["used"]) if study is not None else None
        values = [Cell("–")] * 3
        if one is not None:
            named = ((one["params"], count), (one["tokens"], count), (one["tokens_per_param"], _ratio))
            values = [interval_cell(found["value"], found, spell) for found, spell in named]
        rows.append(
            [
                value_cell(budget["budget_flops"], scientific),
                Cell(str(budget["n"]), budget["n"]),
                *values,
                value_cell(one["loss"]["value"] if one else None, _loss),
                value_cell(budget["parabola_bias"], percent),
                Cell("on the edge" if budget["edge"] else "inside"),
            ]
        )
    headings = columns(
        "#budget, FLOPs", "#runs", "#N*", "#D*", "#D*/N*", "#loss", "#parabola's bias in N*", "minimum lies"
    )
    return Table("Minima", headings, rows, "" if study is None else sentence(study["why"]))


def exponents(results: Results) -> Table:
    """The power laws in compute, by curve model."""
    study = results["isoflop"]
    rows = []
    for name, laws in study["laws"].items() if study is not None else ():
        for quantity, law in laws.items():
            if law["exponent"] is None:
                rows.append([Cell(name), Cell(QUANTITIES[quantity]), Cell("–"), Cell(law["why"])])
                continue
            rows.append(
                [
                    Cell(name),
                    Cell(QUANTITIES[quantity]),
                    interval_cell(law["exponent"], law["interval"] or NO_ENDS, lambda v: f"{v:.3f}".replace("-", "−")),
                    Cell(_power_law(law)),
                ]
            )
    return Table("Power laws in compute", columns("minima by", "quantity", "#exponent", "power law"), rows)


def members(results: Results) -> Table:
    """The forecasters behind the headline, each with the error of its own roll-outs, and the headline last."""
    target, section = results["forecast"]["at_target"], results["forecast"].get("ensemble")
    if target is None or section is None:
        return Table("", (), ())
    headline: MemberPrediction = {
        "name": section["name"],
        "params": target["params"]["value"],
        "loss": target["loss"]["value"],
        "error": section["error"],
        "trials": max((one["trials"] for one in section["members"]), default=0),
    }
    rows = [
        [
            Cell(one["name"]),
            value_cell(one["params"], count),
            value_cell(one["loss"], lambda loss: f"{loss:.3f}"),
            percent_cell(one["error"]["params"], 0),
            percent_cell(one["error"]["loss"], 1),
            number_cell(one["trials"]),
        ]
        for one in [*target.get("members", []), headline]
    ]
    headings = columns("forecaster", "#N*", "#loss", "#error in N*", "#error in loss", "#roll-outs")
    note = "Errors are the root mean square of roll-outs: the smaller budgets fitted, the larger predicted."
    return Table("Forecasters", headings, rows, note)


def rollouts(results: Results) -> Table:
    """Laws by their errors on the held-out budgets, the best predictor first."""
    rows = [
        [
            Cell(row["law"]),
            Cell(str(row["predictions"]), row["predictions"]),
            percent_cell(row["rmse"], 2),
            percent_cell(row["bias"], 2),
            percent_cell(row["coverage"], 0),
            value_cell(row["longest_decades"], number),
            value_cell(row["aicc"], number),
            value_cell(row["delta_aicc"], number),
        ]
        for row in (results["holdout"]["table"] if results["holdout"] is not None else ())
    ]
    headings = columns(
        "law", "#predictions", "#rms error", "#bias", "#inside interval", "#longest reach, decades", "#AICc", "#ΔAICc"
    )
    return Table(
        "Laws, best predictor first", headings, rows, "Errors are of the log loss of held-out runs." if rows else ""
    )


def unscored(results: Results) -> Table:
    """Laws and rungs that could not be scored, with the reason."""
    rows = [
        [Cell(one["law"]), value_cell(one["trained_to_flops"], flops_text), Cell(one["why"])]
        for one in (results["holdout"]["unscored"] if results["holdout"] is not None else ())
    ]
    return Table("Not scored" if rows else "", columns("law", "fitted up to", "~why"), rows)


def choices(results: Results) -> Table:
    """Every refit of the multiverse."""
    rows = [
        [
            *(Cell(row[choice]) for choice in CHOICES),
            Cell(str(row["n"]), row["n"]),
            value_cell(row["params"], count),
            value_cell(row["tokens"], count),
            value_cell(row["loss_nats"], _loss),
            value_cell(row["exponent"], number),
            Cell(_ended(row["status"], row["why"])),
        ]
        for row in (results["choices"]["rows"] if results["choices"] is not None else ())
    ]
    headings = columns(
        "counting", "loss", "outliers", "budgets", "#runs", "#N*", "#D*", "#loss, nats", "#exponent", "~status"
    )
    return Table("Refits" if rows else "", headings, rows)


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
        ended = sentence(_ended(entry["status"], entry["why"]))
        note = f"{entry['equation']} ({entry['source']}). {ended} {weighed}".rstrip()
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
            Cell(f"exponent of {symbol}"),
            Cell(number(one["value"]), one["value"]),
            Cell(
                _interval_words({"low": one["low"], "high": one["high"], "level": level, "method": "percentile"}, why)
            ),
            Cell(words),
        ]
        for symbol, one in ((QUANTITIES["params"], grown["params"]), (QUANTITIES["tokens"], grown["tokens"]))
        if one["value"] is not None
    ]


def _ended(status: str, why: str) -> str:
    """The end of a fit in words, with its troubles."""
    return status.replace("_", " ") + (f": {why}" if why else "")


def _power_law(law: PowerLawEntry) -> str:
    floor = f"{number(law['floor'])} + " if law["floor"] else ""
    return f"{floor}{number(law['coefficient'])} C^{law['exponent']:.4f}".replace("^-", "^−")


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


def excluded(results: Results) -> Table:
    """Rows left out, with the reason."""
    rows = [
        [
            Cell("–" if one["row"] is None else str(one["row"]), one["row"]),
            Cell(one["run_id"] or "–"),
            Cell(one["reason"]),
        ]
        for one in results["excluded"][:MOST_ROWS]
    ]
    note = _cut(len(results["excluded"])) if rows else "Nothing was excluded."
    return Table("Excluded", columns("#row", "run", "~reason"), rows, note)


def observations(results: Results) -> Table:
    """The runs used."""
    runs = results["observations"]
    study = results["isoflop"]
    rows = []
    for k in range(min(len(runs["row"]), MOST_ROWS)):
        budget = runs["budget"][k]
        compute = None if budget is None or study is None else study["budgets"][budget]["budget_flops"]
        rows.append(
            [
                Cell(str(runs["row"][k]), runs["row"][k]),
                Cell(str(runs["run_id"][k])),
                Cell(str(runs["group"][k])),
                value_cell(runs["params"][k], count),
                value_cell(runs["tokens"][k], count),
                value_cell(runs["flops"][k], scientific),
                value_cell(runs["loss"][k], _loss),
                number_cell(runs["weight"][k]),
                Cell("none" if compute is None else scientific(compute), compute),
            ]
        )
    headings = columns("#row", "run", "group", "#parameters", "#tokens", "#FLOPs", "#loss", "#weight", "#budget, FLOPs")
    return Table("Runs used", headings, rows, _cut(len(runs["row"])))


def settings(results: Results) -> Table:
    """The request, and the counting of every quantity."""
    asked, words = results["settings"], results["conventions"]
    lines = {
        "source": ", ".join(results["source"]),
        "laws": ", ".join(asked["laws"]),
        "loss minimised": loss_words(asked["loss"]),
        "errors": asked["errors_words"],
        "resamples": str(asked["bootstrap"]),
        "seed": str(asked["seed"]),
        "interval level": f"{asked['level']:.0%}",
        "held out": asked["holdout"] or "nothing",
        "target": "none" if asked["target_flops"] is None else flops_text(asked["target_flops"]),
        **{f"{name} are": words[name] for name in ("params", "tokens", "flops")},
        "loss is": words["loss"],
        "compute to size and tokens": results["cost"]["words"],
    }
    return Table("", columns("setting", "~value"), [[Cell(name), Cell(value)] for name, value in lines.items()])


def loss_words(loss: LossSettings) -> str:
    """A loss in words: huber (δ = 0.001) on log loss, sum."""
    knee = f" (δ = {loss['delta']:g})" if loss["name"] == "huber" else ""
    return f"{loss['name']}{knee} on {loss['on']} loss, {loss['reduction']}"


def _interval_words(interval: Interval | None, why: str) -> str:
    """An interval with its level and method, or that there is none, and the reason where one is known."""
    if not interval or interval["low"] is None:
        return f"no interval: {why}" if why else "none"
    return f"{number(interval['low'])} to {number(interval['high'])} ({interval['level']:.0%}, {interval['method']})"


def _cut(total: int) -> str:
    return f"The first {MOST_ROWS:,} of {total:,} are shown; results.json holds all." if total > MOST_ROWS else ""


def _ratio(value: float) -> str:
    return f"{value:.3g}"


def _loss(value: float) -> str:
    return f"{value:.4f}"
