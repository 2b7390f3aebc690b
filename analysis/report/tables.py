"""The tables of the report, from a results document alone: columns, and cells with words and a value to sort by."""

from collections.abc import Mapping

from scaling.analysis.figures.elements import bits_of
from scaling.analysis.report.blocks import Cell, Table, columns, interval_cell, number_cell, percent_cell, value_cell
from scaling.analysis.report.fit_tables import ended, loss_words
from scaling.analysis.results.run_words import counted
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.ensemble import MemberPrediction
from scaling.analysis.schema.intervals import NO_ENDS, Quantity
from scaling.analysis.schema.isoflop import PowerLawEntry
from scaling.analysis.schema.judgement import CHOICES
from scaling.analysis.words import count, flops_text, number, percent, scientific, sentence

MOST_ROWS = 2_000  # of one table, in the page; all are in results.json
QUANTITIES: Mapping[Quantity, str] = {"params": "N*", "tokens": "D*", "loss": "loss", "tokens_per_param": "D*/N*"}


def budgets(results: Results) -> Table:
    """Every budget's minimum by the curve model in use, with its edge warning and the parabola's own bias."""
    study, bits = results["isoflop"], bits_of(results)
    rows = []
    for budget in study["budgets"] if study is not None else ():
        one = budget["estimates"].get(study["used"]) if study is not None else None
        values = [Cell("–")] * 4
        if one is not None:
            named = (
                (one["params"], count),
                (one["tokens"], count),
                (one["tokens_per_param"], _ratio),
                (one["loss"], _loss),
            )
            values = [interval_cell(found["value"], found, spell) for found, spell in named]
        nats = one["loss"]["value"] if one else None
        rows.append(
            [
                value_cell(budget["budget_flops"], scientific),
                Cell(counted(results, budget["observations"]).removesuffix(" runs"), budget["n"]),
                *values,
                *([] if bits is None else [value_cell(None if nats is None else nats * bits, _loss)]),
                value_cell(budget["parabola_bias"], percent),
                Cell("on the edge" if budget["edge"] else "inside"),
            ]
        )
    headings = columns(
        *("#budget, FLOPs", "#runs", "#N*", "#D*", "#D*/N*", "#L*, nats per token"),
        *([] if bits is None else ["#bits per byte"]),
        *("#parabola's bias in N*", "minimum"),
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
            Cell(ended(row["status"], row["why"])),
        ]
        for row in (results["choices"]["rows"] if results["choices"] is not None else ())
    ]
    headings = columns(
        "counting", "loss", "outliers", "budgets", "#runs", "#N*", "#D*", "#loss, nats", "#exponent", "~status"
    )
    return Table("Refits" if rows else "", headings, rows)


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
    runs, bits = results["observations"], bits_of(results)
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
                *([] if bits is None else [value_cell(runs["loss"][k] * bits, _loss)]),
                number_cell(runs["weight"][k]),
                Cell("none" if compute is None else scientific(compute), compute),
            ]
        )
    headings = columns(
        *("#row", "run", "group", "#parameters", "#tokens", "#FLOPs", "#loss"),
        *([] if bits is None else ["#bits per byte"]),
        *("#weight", "#budget, FLOPs"),
    )
    return Table("Runs used", headings, rows, _cut(len(runs["row"])))


def settings(results: Results) -> Table:
    """The request, and the counting of every quantity."""
    asked, words, ratio = results["settings"], results["conventions"], results.get("bytes_per_token")
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
        **({} if ratio is None else {"a token is": f"{ratio:.4g} bytes of validation text"}),
        "compute to size and tokens": results["cost"]["words"],
    }
    return Table("", columns("setting", "~value"), [[Cell(name), Cell(value)] for name, value in lines.items()])


def _power_law(law: PowerLawEntry) -> str:
    floor = f"{number(law['floor'])} + " if law["floor"] else ""
    return f"{floor}{number(law['coefficient'])} C^{law['exponent']:.4f}".replace("^-", "^−")


def _cut(total: int) -> str:
    return f"The first {MOST_ROWS:,} of {total:,} are shown; results.json holds all." if total > MOST_ROWS else ""


def _ratio(value: float) -> str:
    return f"{value:.3g}"


def _loss(value: float) -> str:
    return f"{value:.4f}"
