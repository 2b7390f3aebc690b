"""The first page of a study fitted in groups: these side by side, linked to their own.

Only what is comparable stands side by side. Of losses that measure different things: exponents, optimal sizes and
tokens, and each loss relative to its own group's; no raw loss is in a sentence or a table, and no axis is shared.
Treatments of one measure share an axis, and a section says which is better by how much.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.figures import families, treatments
from analysis.figures.elements import NO_STUDY
from analysis.judgement.treatments import CURVE
from analysis.report import cells
from analysis.report import page as report
from analysis.results.parts import compared
from analysis.runs.budgets import distinct
from analysis.words import count, percent, scientific

Results = Mapping[str, Any]
Parts = Mapping[str, Results]
Json = dict[str, Any]


def write_families(parts: Parts, pages: Mapping[str, Path], out_dir: Path) -> Path:
    """Write out_dir/report.html, which links to each group's page in `pages`, and its figures; returns its path."""
    from analysis.figures import paper

    parts, switched = _by_one_estimator(parts)
    found = {f"treatments{k or ''}": results for k, results in enumerate(compared(parts))}
    charts = {
        **{name: treatments.treatments(results) for name, results in found.items()},
        "families": families.curves(parts),
        "growth": families.growth(parts),
    }
    files = paper.save_all(charts, out_dir / report.FIGURES_DIR)
    first = next(iter(parts.values()))
    links = [{"name": name, "path": Path(os.path.relpath(path, out_dir)).as_posix()} for name, path in pages.items()]
    sources = list(dict.fromkeys(source for results in parts.values() for source in results["source"]))
    page = report.fill(
        "families.html.j2",
        charts,
        files,
        None,
        title=", ".join(Path(source).name for source in sources),
        sources=", ".join(sources),
        scope=_scope(parts),
        schema=first["schema"],
        warnings=[f"{name}: {warning}" for name, results in parts.items() for warning in results["warnings"]],
        answer={"lead": _lead(parts), "more": [*(_sentence(name, one) for name, one in parts.items()), *switched]},
        pages=links,
        what_if=None,
        sections=[
            _section("answer", "Answer"),
            *([_treatments_section(found)] if found else []),
            _section("families", "IsoFLOP curves", ["families"]),
            _section("growth", "How the optimum moves with compute", ["growth"], exponents(parts), optima(parts)),
        ],
    )
    return report.write_page(page, out_dir)


CAUTION = (
    "These groups' losses are of different predictions or texts, so a lower loss in one says nothing against another: "
    "exponents, optimal sizes and tokens, and each loss relative to its own group's are what they can be compared by."
)


def _by_one_estimator(parts: Parts) -> tuple[Parts, list[str]]:
    """The parts by one curve model, so that no difference is one between models, and a sentence where any moved."""
    studied = [name for name, results in parts.items() if results["isoflop"] is not None]
    if len({parts[name]["isoflop"]["used"] for name in studied}) < 2:
        return parts, []
    moved = [name for name in studied if parts[name]["isoflop"]["used"] != CURVE]
    alike = {name: {**parts[name], "isoflop": {**parts[name]["isoflop"], "used": CURVE}} for name in moved}
    said = f"On this page every minimum is the {CURVE}'s; on its own page {', '.join(moved)} is read off the surface."
    return {**parts, **alike}, [said]


def _treatments_section(found: Parts) -> Json:
    made = [table for results in found.values() for table in differences(results)]
    return _section("treatments", treatments.TITLE, list(found), *made)


def _lead(parts: Parts) -> list[str]:
    """What may be said of the losses: a verdict on treatments of one measure, caution between measures."""
    verdicts = [pair["verdict"] for results in compared(parts) for pair in results["comparison"]["pairs"]]
    return verdicts if families.one_measure(parts) else [CAUTION + (" Except:" if verdicts else ""), *verdicts]


def _section(id: str, title: str, figures: list[str] | None = None, *made: Json) -> Json:
    return {"id": id, "title": title, "figures": figures or [], "words": [], "tables": list(made)}


def _scope(parts: Parts) -> str:
    runs = sum(len(results["observations"]["row"]) for results in parts.values())
    excluded = {(one["row"], one["run_id"]) for results in parts.values() for one in results["excluded"]}
    return f"{len(parts)} groups of runs, {runs} in all, {len(excluded)} excluded"


def _sentence(name: str, results: Results) -> str:
    """How one group's optimum moves, in words."""
    law = law_of(results, "params")
    if law["exponent"] is None:
        return f"{name}: {law['why']}."
    return f"{name}: N* grows as compute to the power {_exponent(law)}{_fall(results)}."


def _fall(results: Results) -> str:
    minima = families.trusted_minima(results)
    if len(minima) < 2:
        return ""
    first, last, change = minima[0]["flops"], minima[-1]["flops"], _relative(minima, -1)
    moved = f"{'falls' if change < 0 else 'rises'} by {abs(change):.1%}"
    return f"; from {scientific(first, 2)} to {scientific(last, 2)} FLOPs its loss at the optimum {moved}"


def differences(results: Results) -> list[Json]:
    """A table a pair of treatments: their losses at each budget's optima, and the paired differences, and over all."""
    found = results["comparison"]
    note = f"Differences of the loss at equal shape and budget. These runs differ in {', '.join(found['settings'])}."
    made = []
    for pair in found["pairs"]:
        first, second = pair["names"]
        rows = [
            [
                cells.cell("all" if one["flops"] is None else scientific(one["flops"]), one["flops"]),
                *(
                    cells.interval_cell(_optimum(found["treatments"][name], one["flops"]), lambda value: f"{value:.4f}")
                    for name in (first, second)
                ),
                cells.cell(f"{one['lower']} of {one['cells']}", one["lower"]),
                cells.number_cell(one["mean_nats"]),
                cells.number_cell(one["se_nats"]),
            ]
            for one in [*pair["by_budget"], {"flops": None, **pair["difference"]}]
        ]
        columns = cells.columns(
            "#budget, FLOPs",
            f"#loss at {first}'s optimum",
            f"#at {second}'s",
            f"#{second} lower in",
            "#mean difference, nats",
            "#standard error",
        )
        made.append(cells.table(f"{second} against {first}", columns, rows, note))
    return made


def _optimum(one: Results, flops: float | None) -> Results:
    """The loss at a treatment's minimum at a budget; none over all, on the grid's edge, or without the budget."""
    inside = [] if flops is None else [b for b in one["budgets"] if len(distinct([b["flops"], flops])) == 1]
    return next((budget for budget in inside if not budget["edge"]), {"value": None})


def exponents(parts: Parts) -> Json:
    """A row a group: how N*, D* and the loss at the optimum move with compute, with intervals."""
    rows = []
    for name, results in parts.items():
        laws = {quantity: law_of(results, quantity) for quantity in ("params", "tokens", "loss")}
        minima = families.trusted_minima(results)
        change = _relative(minima, -1) if len(minima) > 1 else None
        share = predicted_share(results)
        rows.append(
            [
                cells.cell(name),
                cells.cell(str(len(results["observations"]["row"])), len(results["observations"]["row"])),
                *(cells.cell(_exponent(law), law["exponent"]) for law in laws.values()),
                cells.cell("–" if change is None else percent(change), change),
                cells.cell("–" if share is None else f"{share:.1%}", share),
            ]
        )
    columns = cells.columns(
        "group",
        "#runs",
        "#exponent of N*",
        "#exponent of D*",
        "#exponent of the loss",
        "#loss, last against first",
        "#D predicted",
    )
    return cells.table("Exponents in compute", columns, rows, NOTE)


NOTE = (
    "Each quantity at the optimum as compute to a power, with its interval; D predicted: the share of the tokens read "
    "that a loss is taken of. With fewer than four budgets no floor is "
    "taken off the loss, and its exponent then also depends on how much of it nothing can predict."
)


def optima(parts: Parts) -> Json:
    """A row a group and budget: N*, D*, what is predicted for the compute, and the loss against the group's first."""
    rows = []
    for name, results in parts.items():
        study, share = results["isoflop"], predicted_share(results)
        minima = families.trusted_minima(results)
        trusted = {one["flops"]: k for k, one in enumerate(minima)}
        for budget in study["budgets"] if study is not None else ():
            flops, one = budget["budget_flops"], budget["estimates"][study["used"]]
            inside = not budget["edge"] and one["params"]["value"] is not None
            yielded = one["tokens"]["value"] * share / flops if inside and share is not None else None
            change = _relative(minima, trusted[flops]) if flops in trusted else None
            rows.append(
                [
                    cells.cell(name),
                    cells.cell(scientific(flops), flops),
                    *(
                        cells.interval_cell(one[quantity], count) if inside else cells.cell("–")
                        for quantity in ("params", "tokens", "tokens_per_param")
                    ),
                    cells.cell("–" if yielded is None else scientific(yielded), yielded),
                    cells.cell("–" if change is None else percent(change), change),
                    cells.cell("inside" if inside else "on the edge"),
                ]
            )
    columns = cells.columns(
        "group",
        "#budget, FLOPs",
        "#N*",
        "#D*",
        "#D*/N*",
        "#predicted a FLOP",
        "#loss against first",
        "minimum lies",
    )
    note = (
        "Tokens predicted a FLOP: of the D* that a model reads, those that a loss is taken of, by its training compute."
    )
    return cells.table("Optima", columns, rows, note)


def law_of(results: Results, quantity: str) -> Json:
    """The power law of a quantity through the minima in use, or {"exponent": None, "why"}."""
    study = results["isoflop"]
    if study is None:
        return {"exponent": None, "why": NO_STUDY}
    return dict(study["laws"][study["used"]][quantity])


def predicted_share(results: Results) -> float | None:
    """What share of the training tokens a loss was taken of; None where the runs do not say."""
    runs = results["observations"]
    predicted = runs.get("predicted_tokens") or [None]
    if None in predicted:
        return None
    return float(np.sum(predicted) / np.sum(runs["tokens"]))


def _relative(minima: list[Results], k: int) -> float:
    """The loss at the k-th minimum against the first's, minus one."""
    return float(minima[k]["loss"]["value"] / minima[0]["loss"]["value"] - 1)


def _exponent(law: Results) -> str:
    if law["exponent"] is None:
        return "–"
    ends = law["interval"] or {"low": None, "high": None}
    said = cells.stated({"value": law["exponent"], **ends}, lambda value: f"{value:.3f}")
    return said.replace("-", "−") + (" above a floor" if law["floor"] else "")
