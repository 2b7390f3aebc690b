"""The tables of the report, from a results document alone: columns, and cells with words and a value to sort by."""

from collections.abc import Mapping
from typing import Any

from analysis.judgement.forecast import cost_of
from analysis.laws.law import SIX_N_D
from analysis.report.cells import cell as _cell
from analysis.report.cells import columns as _columns
from analysis.report.cells import interval_cell as _interval_cell
from analysis.report.cells import number_cell as _number_cell
from analysis.report.cells import percent_cell as _percent_cell
from analysis.report.cells import table as _table
from analysis.results.summary import UNDER_SIX_N_D
from analysis.words import count, flops_text, number, percent, scientific, sentence, symbol

Results = Mapping[str, Any]
Json = dict[str, Any]
MOST_ROWS = 2_000  # of one table, in the page; all are in results.json
QUANTITIES = {"params": "N*", "tokens": "D*", "loss": "loss", "tokens_per_param": "D*/N*"}


def budgets(results: Results) -> Json:
    """Every budget's minimum by the estimator in use, with its edge warning and the parabola's own bias."""
    study = results["isoflop"]
    rows = []
    for budget in study["budgets"] if study is not None else ():
        one = budget["estimates"].get(study["used"]) if study is not None else None
        bias = budget["parabola_bias"]
        values = [
            _interval_cell(one[name], say) if one else _cell("–")
            for name, say in (("params", count), ("tokens", count), ("tokens_per_param", _ratio))
        ]
        loss = one["loss"]["value"] if one else None
        rows.append(
            [
                _cell(scientific(budget["budget_flops"]), budget["budget_flops"]),
                _cell(str(budget["n"]), budget["n"]),
                *values,
                _cell("–" if loss is None else _loss(loss), loss),
                _cell("–" if bias is None else percent(bias), bias),
                _cell("on the edge" if budget["edge"] else "inside"),
            ]
        )
    columns = _columns(
        "#budget, FLOPs", "#runs", "#N*", "#D*", "#D*/N*", "#loss", "#parabola's bias in N*", "minimum lies"
    )
    return _table("Minima", columns, rows, "" if study is None else sentence(study["why"]))


def exponents(results: Results) -> Json:
    """The power laws in compute, by estimator."""
    study = results["isoflop"]
    rows = []
    for name, laws in (study["laws"] if study is not None else {}).items():
        for quantity, law in laws.items():
            if law["exponent"] is None:
                rows.append([_cell(name), _cell(QUANTITIES[quantity]), _cell("–"), _cell(law["why"])])
                continue
            own = {"value": law["exponent"], **(law["interval"] or {"low": None, "high": None})}
            rows.append(
                [
                    _cell(name),
                    _cell(QUANTITIES[quantity]),
                    _interval_cell(own, lambda v: f"{v:.3f}".replace("-", "−")),
                    _cell(_power_law(law)),
                ]
            )
    return _table("Power laws in compute", _columns("minima by", "quantity", "#exponent", "power law"), rows)


def rollouts(results: Results) -> Json:
    """Laws by what predicted the held-out budgets best."""
    rows = []
    for row in (results["holdout"] or {}).get("table", ()):
        rows.append(
            [
                _cell(row["law"]),
                _cell(str(row["predictions"]), row["predictions"]),
                *(_percent_cell(row[key], 2) for key in ("rmse", "bias")),
                _percent_cell(row["coverage"], 0),
                _cell(number(row["longest_decades"]), row["longest_decades"]),
                _cell(number(row["aicc"]), row["aicc"]),
                _cell(number(row["delta_aicc"]), row["delta_aicc"]),
            ]
        )
    columns = _columns(
        "law", "#predictions", "#rms error", "#bias", "#inside interval", "#longest reach, decades", "#AICc", "#ΔAICc"
    )
    return _table(
        "Laws, best predictor first", columns, rows, "Errors are of the log loss of held-out runs." if rows else ""
    )


def unscored(results: Results) -> Json:
    """Laws and rungs that could not be scored, with the reason."""
    rows = [
        [_cell(one["law"]), _cell(flops_text(one["trained_to_flops"]), one["trained_to_flops"]), _cell(one["why"])]
        for one in (results["holdout"] or {}).get("unscored", ())
    ]
    return _table("Not scored" if rows else "", _columns("law", "fitted up to", "~why"), rows)


def choices(results: Results) -> Json:
    """Every refit of the multiverse."""
    rows = []
    for row in (results["choices"] or {}).get("rows", ()):
        values = [
            _cell("–" if row[key] is None else say(row[key]), row[key])
            for key, say in (("params", count), ("tokens", count), ("loss_nats", _loss), ("exponent", number))
        ]
        said = row["status"].replace("_", " ") + (f": {row['why']}" if row["why"] else "")
        rows.append(
            [
                *(_cell(row[key]) for key in ("counting", "loss", "outliers", "budgets")),
                _cell(str(row["n"]), row["n"]),
                *values,
                _cell(said),
            ]
        )
    columns = _columns(
        "counting", "loss", "outliers", "budgets", "#runs", "#N*", "#D*", "#loss, nats", "#exponent", "~status"
    )
    return _table("Refits" if rows else "", columns, rows)


def parameters(results: Results) -> list[Json]:
    """One table a fit: each parameter with its interval, or, where it is not identified, why it has no number."""
    made = []
    for entry in results["fits"]:
        rows = []
        for group, intervals in (("params", "intervals"), ("derived", "derived_intervals")):
            for name, value in entry[group].items():
                flag = entry["identification"].get(name)
                known = flag is None or flag["kind"] == "identified"
                interval = entry[intervals].get(name)
                rows.append(
                    [
                        _cell(symbol(name)),
                        _cell(number(value), value) if known else _cell(flag["kind"].replace("_", " ")),
                        _cell(_interval_words(interval)),
                        _cell(flag["sentence"] if flag else f"for {SIX_N_D}" if name in UNDER_SIX_N_D else ""),
                    ]
                )
        rows += _exponents_of_the_optimum(results, entry)
        said = entry["status"].replace("_", " ") + (f": {entry['why']}" if entry["why"] else "")
        asked = results["settings"]
        weighed = "" if asked["errors"] == "equal" else sentence(asked["errors_words"])
        note = f"{entry['equation']} ({entry['source']}). {sentence(said)} {weighed}".rstrip()
        made.append(
            _table(f"{entry['name']} law", _columns("parameter", "#value", "interval", "~identification"), rows, note)
        )
    return made


def _exponents_of_the_optimum(results: Results, entry: Results) -> list[list[Json]]:
    if not entry["optimum"]:
        return []
    level, words = results["settings"]["level"], f"at the largest measured compute, for {cost_of(results)}"
    found = [(QUANTITIES[name], one) for name, one in entry["optimum"]["exponents"].items() if one["value"] is not None]
    return [
        [
            _cell(f"exponent of {symbol}"),
            _cell(number(one["value"]), one["value"]),
            _cell(_interval_words(one | {"level": level, "method": "percentile"})),
            _cell(words),
        ]
        for symbol, one in found
    ]


def _power_law(law: Results) -> str:
    floor = f"{number(law['floor'])} + " if law["floor"] else ""
    return f"{floor}{number(law['coefficient'])} C^{law['exponent']:.4f}".replace("^-", "^−")


def evidence(results: Results) -> Json:
    """How well each optimum is established."""
    rows = []
    for entry in results["fits"]:
        found = entry.get("evidence") or {}
        draws = entry["draws"] or {}
        loss = entry.get("loss") or results["settings"]["loss"]
        rows.append(
            [
                _cell(entry["name"]),
                _cell(entry["status"].replace("_", " ")),
                _cell("–" if entry["objective"] is None else f"{entry['objective']:.10g}", entry["objective"]),
                _cell(loss_words(loss)),
                _cell(str(entry.get("n") or "–"), entry.get("n")),
                _cell(f"{found['agreed']} of {found['starts']}" if found else "–"),
                _number_cell(found.get("kkt_residual")),
                _number_cell(found.get("condition")),
                _cell(", ".join(found.get("at_bound") or ()) or "none"),
                _cell(f"{draws['converged']} of {draws['drawn']}" if draws else "none"),
                _number_cell(entry.get("aicc")),
            ]
        )
    columns = _columns(
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
    return _table("Evidence of each optimum", columns, rows)


def excluded(results: Results) -> Json:
    """Rows left out, with the reason."""
    rows = [
        [
            _cell("–" if one["row"] is None else str(one["row"]), one["row"]),
            _cell(one["run_id"] or "–"),
            _cell(one["reason"]),
        ]
        for one in results["excluded"][:MOST_ROWS]
    ]
    note = _cut(len(results["excluded"])) if rows else "Nothing was excluded."
    return _table("Excluded", _columns("#row", "run", "~reason"), rows, note)


def observations(results: Results) -> Json:
    """The runs used."""
    runs = results["observations"]
    study = results["isoflop"]
    rows = []
    for k in range(min(len(runs["row"]), MOST_ROWS)):
        budget = runs["budget"][k]
        compute = None if budget is None or study is None else study["budgets"][budget]["budget_flops"]
        rows.append(
            [
                _cell(str(runs["row"][k]), runs["row"][k]),
                _cell(str(runs["run_id"][k])),
                _cell(str(runs["group"][k])),
                *(
                    _cell(say(runs[name][k]), runs[name][k])
                    for name, say in (("params", count), ("tokens", count), ("flops", scientific), ("loss", _loss))
                ),
                _number_cell(runs["weight"][k]),
                _cell("none" if compute is None else scientific(compute), compute),
            ]
        )
    columns = _columns("#row", "run", "group", "#parameters", "#tokens", "#FLOPs", "#loss", "#weight", "#budget, FLOPs")
    return _table("Runs used", columns, rows, _cut(len(runs["row"])))


def settings(results: Results) -> Json:
    """What was asked for and how things are counted."""
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
        "target": flops_text(asked["target_flops"]),
        **{f"{name} are": words[name] for name in ("params", "tokens", "flops")},
        "loss is": words["loss"],
        "compute to size and tokens": results["cost"]["words"],
    }
    return _table("", _columns("setting", "~value"), [[_cell(name), _cell(value)] for name, value in lines.items()])


def loss_words(loss: Results) -> str:
    """A loss in words: huber (δ = 0.001) on log loss, sum."""
    knee = f" (δ = {loss['delta']:g})" if loss.get("delta") is not None and loss["name"] == "huber" else ""
    return f"{loss['name']}{knee} on {loss['on']} loss, {loss['reduction']}"


def _interval_words(interval: Results | None) -> str:
    if not interval or interval["low"] is None:
        return "none"
    return f"{number(interval['low'])} to {number(interval['high'])} ({interval['level']:.0%}, {interval['method']})"


def _cut(total: int) -> str:
    return f"The first {MOST_ROWS:,} of {total:,} are shown; results.json holds all." if total > MOST_ROWS else ""


def _ratio(value: float) -> str:
    return f"{value:.3g}"


def _loss(value: float) -> str:
    return f"{value:.4f}"
