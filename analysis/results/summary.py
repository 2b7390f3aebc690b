"""A results document in words: what to know before its numbers, and what a terminal shows of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.judgement.forecast import cost_of, describe, interval
from analysis.laws.law import SIX_N_D

UNDER_SIX_N_D = ("a", "b", "G")  # derived quantities of a law that hold for that cost alone
LEAST_CLUSTERS = 10  # runs that a bootstrap needs to see the spread between them
LARGE_MOVE = 0.25  # of the optimal size, when a single run is left out
LEAST_CONVERGED = 0.95  # share of the resamples
MOST_LISTED = 8  # excluded rows and notes; the document holds them all


def warnings_of(document: Mapping[str, Any]) -> list[str]:
    """Everything a reader must know before the numbers: first what moves the answer, then the other laws' troubles."""
    study, forms = document["isoflop"], document["forecast"]["forms"]
    edges = [budget["edge"] for budget in study["budgets"] if budget["edge"]] if study is not None else []
    lone = study is not None and len(study["budgets"]) == 1
    lead = [entry for entry in document["fits"] if forms and entry["name"] == forms[0]]
    others = [entry for entry in document["fits"] if entry not in lead]
    return [
        *edges,
        *(["one compute budget only: nothing says how the optimum moves with compute"] if lone else []),
        *(line for entry in lead for line in (*_of_fit(entry), *_unidentified(entry))),
        *_influential(document["influence"]),
        *(line for entry in others for line in _of_fit(entry)),
    ]


def _unidentified(entry: Mapping[str, Any]) -> Iterator[str]:
    weak = [name for name, flag in entry["identification"].items() if flag["kind"] != "identified"]
    if weak:
        what = "the predicted loss" if weak == ["E"] else "the optimal size and loss"
        yield (
            f"these runs do not pin down {', '.join(weak)} of the {entry['name']} law: {what} beyond the data "
            "may be far off; more budgets, or more seeds, would tell"
        )


def _influential(influence: Mapping[str, Any] | None) -> Iterator[str]:
    moves = [run for run in (influence or {}).get("runs", ()) if run["change"] is not None]
    if moves and abs(moves[0]["change"]) > LARGE_MOVE:
        yield f"one run decides much: without {moves[0]['run']} the optimal size moves by {moves[0]['change']:+.0%}"


def _of_fit(entry: Mapping[str, Any]) -> Iterator[str]:
    name, draws = entry["name"], entry["draws"]
    if entry["status"] == "refused":
        yield f"{name} was not fitted: {entry['why']}"
    elif entry["status"] != "converged" or entry["why"]:
        yield f"{name}: {entry['status'].replace('_', ' ')}: {entry['why']}"
    if draws and draws["converged"] < LEAST_CONVERGED * draws["drawn"]:
        lost = f"only {draws['converged']} of {draws['drawn']} resamples converged"
        yield f"{name}: {lost}; its intervals leave the others out"
    if draws and draws["clusters"] < LEAST_CLUSTERS:
        yield f"{name}: {draws['clusters']} runs are too few to resample; its intervals are too narrow"


def summary(results: Mapping[str, Any]) -> str:
    """The lines a user reads: minima on the grid's edge before all else, no unidentified number without
    its flag.
    """
    return "\n".join(
        [
            *(f"WARNING {line}" for line in results["warnings"]),
            *_data(results),
            *_laws(results),
            *_isoflop(results),
            *_envelope(results),
            *_holdout(results),
            *_decision(results),
            *_health(results),
            *(f"note: {line}" for line in results["notes"]),
        ]
    )


def _data(results: Mapping[str, Any]) -> Iterator[str]:
    excluded = results["excluded"]
    n = len(results["observations"]["loss"])
    yield f"{n} observations from {', '.join(results['source'])}; {len(excluded)} excluded"
    reasons: dict[str, list[str]] = {}
    for one in excluded:
        named = " ".join(part for part in (f"row {one['row']}" if one["row"] else "", one["run_id"]) if part)
        reasons.setdefault(one["reason"], []).append(named)
    for reason, runs in list(reasons.items())[:MOST_LISTED]:
        shown = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        yield f"  excluded: {shown + ': ' if shown else ''}{reason}"
    if len(reasons) > MOST_LISTED:
        yield f"  excluded for {len(reasons) - MOST_LISTED} more reasons, all in results.json"
    yield "  counting: " + "; ".join(results["conventions"].values())


def _laws(results: Mapping[str, Any]) -> Iterator[str]:
    for entry in results["fits"]:
        if entry["status"] == "refused":
            continue
        loss = entry["loss"]
        knee = f" delta {loss['delta']:g}" if loss["name"] == "huber" else ""
        yield f"{entry['name']}: {entry['equation']}"
        for name, value in entry["params"].items():
            yield "  " + _number(entry, name, value)
        for name, value in entry["derived"].items():
            yield "  " + _number(entry, name, value) + (f" (for {SIX_N_D})" if name in UNDER_SIX_N_D else "")
        if entry["optimum"] and cost_of(results) != SIX_N_D:
            grown = entry["optimum"]["exponents"]
            said = [
                f"{symbol} ~ C^{grown[name]['value']:.4g} {interval(grown[name]['low'], grown[name]['high'])}"
                for name, symbol in (("params", "N*"), ("tokens", "D*"))
                if grown[name]["value"] is not None
            ]
            yield f"  under the runs' own {cost_of(results)}: {', '.join(said)}"
        evidence, ended = entry["evidence"], entry["status"].replace("_", " ")
        yield (
            f"  objective {entry['objective']:.9g} ({loss['name']}{knee} on {loss['on']} loss, summed over "
            f"{entry['n']}); {ended}, {evidence['agreed']} of {evidence['starts']} "
            f"starts agree; noise {entry['noise_sd_log']:.2%} of the loss"
        )


def _number(entry: Mapping[str, Any], name: str, value: float | None) -> str:
    """One parameter: its value and interval when identified; the flag's sentence in its place when not."""
    flag = entry["identification"].get(name)
    found = {**entry["intervals"], **entry["derived_intervals"]}.get(name)
    if value is None or name in entry["evidence"]["unseen"]:
        return f"{name} is not determined by these observations"
    if flag is not None and flag["kind"] != "identified":
        return str(flag["sentence"])
    if found is None:
        return f"{name} = {value:.5g} (no interval: no resamples)"
    return f"{name} = {value:.5g} {interval(found['low'], found['high'])}"


def _isoflop(results: Mapping[str, Any]) -> Iterator[str]:
    study = results["isoflop"]
    if study is None:
        return
    percent = f"{results['settings']['level']:.0%}"
    yield f"isoFLOP: {len(study['budgets'])} budgets; {study['why']}"
    used = study["used"]
    for budget in study["budgets"]:
        one = budget["estimates"][used]
        params, tokens = one["params"], one["tokens"]
        head = f"  C {budget['budget_flops']:.3g} ({budget['n']} runs): "
        if params["value"] is None:
            yield head + "no minimum"
            continue
        yield (
            f"{head}N* {params['value']:.3g} {interval(params['low'], params['high'], 3)}, "
            f"D* {tokens['value']:.3g} {interval(tokens['low'], tokens['high'], 3)}, "
            f"loss {one['loss']['value']:.4f}{' (EDGE)' if budget['edge'] else ''}"
        )
    for name, symbol in (("params", "N*"), ("tokens", "D*"), ("loss", "loss")):
        law = study["laws"][used][name]
        if law["exponent"] is None:
            yield f"  {symbol} against C: {law['why']}"
            continue
        ends = law["interval"] or {"low": None, "high": None}
        floor = f"{law['floor']:.4g} + " if law["floor"] else ""
        yield (
            f"  {symbol} = {floor}{law['coefficient']:.4g} C^{law['exponent']:.4f}, exponent {percent} "
            f"{interval(ends['low'], ends['high'])}"
        )
    yield f"  intervals: {study['noise']['words']}"


def _envelope(results: Mapping[str, Any]) -> Iterator[str]:
    for name, law in ((results["envelope"] or {}).get("laws") or {}).items():
        ends = law["interval"] or {"low": None, "high": None}
        yield f"envelope ({name}): N* ~ C^{law['exponent']:.3f} {interval(ends['low'], ends['high'], 3)}"
    for warning in (results["envelope"] or {}).get("warnings", ()):
        yield f"  {warning}"


def _holdout(results: Mapping[str, Any]) -> Iterator[str]:
    table = (results["holdout"] or {}).get("table", [])
    if any(row["rmse"] is not None for row in table):
        yield "hold-out (fit the smaller budgets, predict the larger), best first:"
    for row in table:
        if row["rmse"] is not None:
            covered = "not judged" if row["coverage"] is None else f"{row['coverage']:.0%} of {row['level']:.0%}"
            yield (
                f"  {row['law']}: error {row['rmse']:.2%}, bias {row['bias']:+.2%} of the loss over "
                f"{row['predictions']} predictions up to {row['longest_decades']:.1f} decades; "
                f"covered {covered}"
            )


def _health(results: Mapping[str, Any]) -> Iterator[str]:
    for name, one in results["health"].items():
        yield f"{name.replace('_', ' ')}: {'not told: ' + one['why'] if one['why'] else one['verdict']}"


def _decision(results: Mapping[str, Any]) -> Iterator[str]:
    found = results["forecast"]["at_target"]
    if found is None:
        return
    yield f"at C = {found['flops']:.3g} ({found['law']}): {describe(found)}"
    choices = results["choices"]
    if choices is not None and choices["spread"]["params"]:
        low, high = choices["spread"]["params"]
        answered = f"{choices['spread']['answered']} of {choices['spread']['analyses']}"
        yield (f"  {answered} defensible analyses answer: N* from {low:.3g} to {high:.3g}")
    runs = [run for run in (results["influence"] or {}).get("runs", []) if run["change"] is not None]
    if runs:
        yield f"  most influential run: {runs[0]['run']}; without it N* moves by {runs[0]['change']:+.1%}"
