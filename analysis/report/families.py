"""The first page of a study fitted in groups: the groups side by side, linked to their own pages.

Only comparable numbers stand side by side. Of losses that measure different things: exponents, optimal sizes and
tokens, and each loss relative to its own group's; no raw loss is in a sentence or a table, and no axis is shared.
Treatments of one measure share an axis, and a section states which is better by how much.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scaling.analysis.figures import families, treatments
from scaling.analysis.figures.elements import NO_STUDY
from scaling.analysis.figures.families import Parts, TrustedMinimum
from scaling.analysis.judgement.treatments import CURVE
from scaling.analysis.report import page as report
from scaling.analysis.report.blocks import (
    Answer,
    Cell,
    Link,
    Section,
    Table,
    columns,
    interval_cell,
    number_cell,
    stated,
    value_cell,
)
from scaling.analysis.results.parts import compared
from scaling.analysis.runs.budgets import distinct
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.intervals import NO_ENDS, Quantity
from scaling.analysis.schema.isoflop import ComputeLaw
from scaling.analysis.schema.treatments import (
    ComparisonSection,
    MeanDifference,
    OptimumLoss,
    TreatmentEntry,
    TreatmentPair,
)
from scaling.analysis.words import count, percent, scientific, share_text


def write_families(parts: Parts, pages: Mapping[str, Path], out_dir: Path) -> Path:
    """Write out_dir/report.html, which links to each group's page in `pages`, and its figures; returns its path."""
    from scaling.analysis.figures import paper

    parts, switched = _by_one_estimator(parts)
    found = {f"treatments{k or ''}": results for k, (results, _) in enumerate(compared(parts))}
    charts = {
        **{name: treatments.treatments(results) for name, results in found.items()},
        "families": families.curves(parts),
        "growth": families.growth(parts),
    }
    files = paper.save_all(charts, out_dir / report.FIGURES_DIR)
    first = next(iter(parts.values()))
    links = [Link(name, Path(os.path.relpath(path, out_dir)).as_posix()) for name, path in pages.items()]
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
        answer=Answer(_lead(parts), [*(_sentence(name, one) for name, one in parts.items()), *switched]),
        pages=links,
        what_if=None,
        sections=[
            Section("answer", "Answer"),
            *([_treatments_section(found)] if found else []),
            Section("families", "IsoFLOP curves", ["families"]),
            Section(
                "growth",
                "How the optimum moves with compute",
                ["growth"],
                tables=[exponents(parts), optima(parts)],
            ),
        ],
    )
    return report.write_page(page, out_dir)


CAUTION = (
    "These groups' losses are of different predictions or texts, so a lower loss in one says nothing against another: "
    "exponents, optimal sizes and tokens, and each loss relative to its own group's are what they can be compared by."
)


def _by_one_estimator(parts: Parts) -> tuple[Parts, list[str]]:
    """The parts by one curve model, so that no difference is one between models, and a sentence where any moved."""
    studies = {name: study for name, results in parts.items() if (study := results["isoflop"]) is not None}
    if len({study["used"] for study in studies.values()}) < 2:
        return parts, []
    moved = {name: study for name, study in studies.items() if study["used"] != CURVE}
    alike: Parts = {name: {**parts[name], "isoflop": {**study, "used": CURVE}} for name, study in moved.items()}
    statement = (
        f"On this page every minimum is the {CURVE}'s; on its own page {', '.join(moved)} is read off another curve."
    )
    return {**parts, **alike}, [statement]


def _treatments_section(found: Parts) -> Section:
    made = [table for results in found.values() for table in differences(results)]
    return Section("treatments", treatments.TITLE, list(found), tables=made)


def _lead(parts: Parts) -> list[str]:
    """The verdicts on treatments of one measure, and caution between measures."""
    verdicts = [pair["verdict"] for _, comparison in compared(parts) for pair in comparison["pairs"]]
    return verdicts if families.one_measure(parts) else [CAUTION + (" Except:" if verdicts else ""), *verdicts]


def _scope(parts: Parts) -> str:
    runs = sum(len(results["observations"]["row"]) for results in parts.values())
    excluded = {(one["row"], one["run_id"]) for results in parts.values() for one in results["excluded"]}
    return f"{len(parts)} groups of runs, {runs} in all, {len(excluded)} excluded"


def _sentence(name: str, results: Results) -> str:
    """The move of one group's optimum with compute, in words."""
    law = law_of(results, "params")
    if law["exponent"] is None:
        return f"{name}: {law['why']}."
    return f"{name}: N* grows as compute to the power {_exponent(law)}{_fall(results)}."


def _fall(results: Results) -> str:
    minima = families.trusted_minima(results)
    if len(minima) < 2:
        return ""
    first, last, change = minima[0].flops, minima[-1].flops, _relative(minima, -1)
    moved = f"{'falls' if change < 0 else 'rises'} by {share_text(abs(change))}"
    return f"; from {scientific(first, 2)} to {scientific(last, 2)} FLOPs its loss at the optimum {moved}"


def differences(results: Results) -> list[Table]:
    """A table a pair of treatments: their losses at each budget's optima, and the paired differences, and over all."""
    found = results["comparison"]
    return [] if found is None else [_differences(found, pair) for pair in found["pairs"]]


def _differences(found: ComparisonSection, pair: TreatmentPair) -> Table:
    first, second = pair["names"]
    each = [_difference_row(found, pair, one["flops"], one) for one in pair["by_budget"]]
    headings = columns(
        "#budget, FLOPs",
        f"#loss at {first}'s optimum",
        f"#at {second}'s",
        f"#{second} lower in",
        "#mean difference, nats",
        "#standard error",
    )
    note = f"Differences of the loss at equal shape and budget. These runs differ in {', '.join(found['settings'])}."
    over_all = _difference_row(found, pair, None, pair["difference"])
    return Table(f"{second} against {first}", headings, [*each, over_all], note)


def _difference_row(
    found: ComparisonSection, pair: TreatmentPair, flops: float | None, one: MeanDifference
) -> list[Cell]:
    optima = [_optimum(found["treatments"][name], flops) for name in pair["names"]]
    return [
        Cell("all" if flops is None else scientific(flops), flops),
        *(
            Cell("–") if optimum is None else interval_cell(optimum["value"], optimum, lambda value: f"{value:.4f}")
            for optimum in optima
        ),
        Cell(f"{one['lower']} of {one['cells']}", one["lower"]),
        number_cell(one["mean_nats"]),
        number_cell(one["se_nats"]),
    ]


def _optimum(one: TreatmentEntry, flops: float | None) -> OptimumLoss | None:
    """The loss at a treatment's minimum at a budget; None over all, on the grid's edge, or without the budget."""
    inside = [] if flops is None else [b for b in one["budgets"] if len(distinct([b["flops"], flops])) == 1]
    return next((budget for budget in inside if not budget["edge"]), None)


def exponents(parts: Parts) -> Table:
    """A row a group: how N*, D* and the loss at the optimum move with compute, with intervals."""
    rows = []
    for name, results in parts.items():
        minima = families.trusted_minima(results)
        runs = len(results["observations"]["row"])
        laws = [law_of(results, "params"), law_of(results, "tokens"), law_of(results, "loss")]
        rows.append(
            [
                Cell(name),
                Cell(str(runs), runs),
                *(Cell(_exponent(law), law["exponent"]) for law in laws),
                value_cell(_relative(minima, -1) if len(minima) > 1 else None, percent),
                value_cell(predicted_share(results), share_text),
            ]
        )
    headings = columns(
        "group",
        "#runs",
        "#exponent of N*",
        "#exponent of D*",
        "#exponent of the loss",
        "#loss, last against first",
        "#D predicted",
    )
    return Table("Exponents in compute", headings, rows, NOTE)


NOTE = (
    "Each quantity at the optimum as compute to a power, with its interval; D predicted: the share of the tokens read "
    "that a loss is taken of. With fewer than four budgets no floor is "
    "taken off the loss, and its exponent then also depends on how much of it nothing can predict."
)


def optima(parts: Parts) -> Table:
    """A row a group and budget: N*, D*, tokens predicted for the compute, and the loss against the group's first."""
    rows = []
    for name, results in parts.items():
        study, share = results["isoflop"], predicted_share(results)
        if study is None:
            continue
        minima = families.trusted_minima(results)
        trusted = {one.flops: k for k, one in enumerate(minima)}
        for budget in study["budgets"]:
            flops, estimate = budget["budget_flops"], budget["estimates"].get(study["used"])
            if budget["edge"] or estimate is None or estimate["params"]["value"] is None:
                estimate = None
            found = [estimate["params"], estimate["tokens"], estimate["tokens_per_param"]] if estimate else []
            tokens = estimate["tokens"]["value"] if estimate else None
            yielded = None if tokens is None or share is None else tokens * share / flops
            rows.append(
                [
                    Cell(name),
                    value_cell(flops, scientific),
                    *(interval_cell(each["value"], each, count) for each in found),
                    *([Cell("–")] * (3 - len(found))),
                    value_cell(yielded, scientific),
                    value_cell(_relative(minima, trusted[flops]) if flops in trusted else None, percent),
                    Cell("inside" if estimate else "on the edge"),
                ]
            )
    headings = columns(
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
    return Table("Optima", headings, rows, note)


def law_of(results: Results, quantity: Quantity) -> ComputeLaw:
    """The power law of a quantity through the minima in use, or the reason why there is none."""
    study = results["isoflop"]
    if study is None:
        return {"exponent": None, "why": NO_STUDY}
    return study["laws"][study["used"]][quantity]


def predicted_share(results: Results) -> float | None:
    """The share of the training tokens that a loss was taken of; None where the runs do not state it."""
    runs = results["observations"]
    predicted = np.array(runs.get("predicted_tokens", [None]), dtype=float)
    return (
        None if np.isnan(predicted).any() else float(np.sum(predicted) / np.sum(np.array(runs["tokens"], dtype=float)))
    )


def _relative(minima: Sequence[TrustedMinimum], k: int) -> float:
    """The loss at the k-th minimum against the first's, minus one."""
    return minima[k].value("loss") / minima[0].value("loss") - 1


def _exponent(law: ComputeLaw) -> str:
    if law["exponent"] is None:
        return "–"
    statement = stated(law["exponent"], law["interval"] or NO_ENDS, lambda value: f"{value:.3f}")
    return statement.replace("-", "−") + (" above a floor" if law["floor"] else "")
