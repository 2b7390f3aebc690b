"""A results document in words: the warnings before its numbers, and the lines on a terminal."""

from collections.abc import Iterator

from scaling.analysis import words
from scaling.analysis.judgement.forecast import cost_of, describe, doubt_of, interval, members_in_words
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.results.run_words import counted, run_words
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.fits import NO_RESAMPLES, FitEntry, FittedEntry, no_interval
from scaling.analysis.schema.intervals import NO_ENDS, Ends
from scaling.analysis.schema.judgement import InfluenceSection
from scaling.analysis.schema.verdicts import is_rejected
from scaling.analysis.words import move_text, share_of, share_text

UNDER_SIX_N_D = ("a", "b", "G")  # derived quantities of a law that hold for that cost alone
LEAST_CLUSTERS = 10  # runs that a bootstrap needs to see the spread between them
LARGE_MOVE = 0.25  # of the optimal size, when a single run is left out
LEAST_CONVERGED = 0.95  # share of the resamples
MOST_LISTED = 8  # excluded rows and notes; the document holds them all


def warnings_of(document: Results) -> list[str]:
    """All that a reader must know before the numbers: threats to the answer first, then the other laws' troubles."""
    study, forms = document["isoflop"], document["forecast"]["forms"]
    edges = [budget["edge"] for budget in study["budgets"] if budget["edge"]] if study is not None else []
    lone = study is not None and len(study["budgets"]) == 1
    answers = forms[:1] if document["forecast"].get("ensemble") is None else []  # a law; no law of all runs else
    lead = [entry for entry in document["fits"] if entry["name"] in answers]
    others = [entry for entry in document["fits"] if entry not in lead]
    return [
        *edges,
        *(["one compute budget only: nothing shows how the optimum moves with compute"] if lone else []),
        *(line for entry in lead for line in (*_of_fit(entry), *_undetermined(entry, document))),
        *_influential(document),
        *(line for entry in others for line in _of_fit(entry)),
    ]


def rejections(document: Results) -> list[str]:
    """The laws that the runs reject, each in a line with its test and its weight in the answer."""
    forms, section = document["forecast"]["forms"], document["forecast"].get("ensemble")
    lines = []
    if section is not None and doubt_of(document):
        names = words.listed([one["name"] for one in section["members"]])
        lines.append(
            f"the runs reject every forecaster behind the answer (p < .001): {names} miss the losses by more than "
            "noise; the test of each stands beside it below"
        )
    for entry in document["fits"]:
        if entry["status"] != "refused" and is_rejected(entry.get("verdict")):
            leads = section is None and entry["name"] in forms
            weight = "the answer rests on it for want of another" if leads else "the answer does not rest on it"
            found = entry["verdict"]["words"].removeprefix("rejected: ")
            lines.append(f"the runs reject the {entry['name']} law: {found}; {weight}")
    return lines


def _undetermined(entry: FitEntry, document: Results) -> Iterator[str]:
    weak = [name for name, flag in entry["identification"].items() if flag["kind"] != "identified"]
    if weak:
        names, predicted = [words.symbol(name) for name in weak], "losses" if weak == ["E"] else "sizes or losses"
        largest = words.scientific(document["range"]["flops"][1], 2)
        yield (
            f"The runs do not determine {words.listed(names)}; do not trust {predicted} predicted beyond {largest} "
            "FLOPs. Add a larger budget or more seeds."
        )


def _largest_move(influence: InfluenceSection | None) -> tuple[str, float] | None:
    """The run that moves the optimal size most, and the relative change without it."""
    runs = influence["runs"] if influence is not None else []
    return next(((run["run"], run["change"]) for run in runs if run["change"] is not None), None)


def _influential(document: Results) -> Iterator[str]:
    largest = _largest_move(document["influence"])
    if largest is not None and abs(largest[1]) > LARGE_MOVE:
        run, change = largest
        moved = move_text(change, 0)
        yield f"one run decides much: without {run} the optimal size moves by {moved}{_which(document, run)}"


def _which(document: Results, run: str) -> str:
    """Size and budget of a run, in brackets behind its name."""
    found = run_words(document, run)
    return "" if found == run else f" ({found})"


def _of_fit(entry: FitEntry) -> Iterator[str]:
    name, draws = entry["name"], entry["draws"]
    if entry["status"] == "refused":
        yield f"{name} was not fitted: {entry['why']}"
        return
    if entry["status"] != "converged" or entry["why"]:
        yield f"{name}: {entry['status'].replace('_', ' ')}: {entry['why']}"
    if (why := no_interval(entry)) not in ("", NO_RESAMPLES):
        yield f"{name}: {why}: nothing is left to judge the fit by, and its numbers have no intervals"
    if draws and draws["converged"] < LEAST_CONVERGED * draws["drawn"]:
        lost = f"only {draws['converged']} of {draws['drawn']} resamples converged"
        yield f"{name}: {lost}; its intervals leave the others out"
    if draws and draws["clusters"] < LEAST_CLUSTERS:
        yield f"{name}: {draws['clusters']} runs are too few to resample; its intervals are too narrow"


def summary(results: Results) -> str:
    """The lines on a terminal: minima on the grid's edge before all else, no unidentified number without its flag."""
    return "\n".join(
        [
            *(f"WARNING {line}" for line in results["warnings"]),
            *(f"inferred: {line}" for line in results.get("inferred", [])),
            *_data(results),
            *_laws(results),
            *_isoflop(results),
            *_envelope(results),
            *_holdout(results),
            *_decision(results),
            *_ground_truth(results),
            *_health(results),
            *(f"note: {line}" for line in results["notes"]),
        ]
    )


def _data(results: Results) -> Iterator[str]:
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
    axes = results["conventions"]
    yield "  counting: " + "; ".join([axes["params"], axes["tokens"], axes["flops"], axes["loss"]])


def _laws(results: Results) -> Iterator[str]:
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
            exponents = entry["optimum"]["exponents"]
            optima = [
                f"{symbol} ~ C^{grown['value']:.4g} {interval(grown['low'], grown['high'])}"
                for grown, symbol in ((exponents["params"], "N*"), (exponents["tokens"], "D*"))
                if grown["value"] is not None
            ]
            yield f"  under the runs' own {cost_of(results)}: {', '.join(optima)}"
        evidence, ended = entry["evidence"], entry["status"].replace("_", " ")
        noise, objective = entry["noise_sd_log"], entry["objective"]
        reached = "not finite" if objective is None else f"{objective:.9g}"
        scatter = "not determined" if noise is None else share_of(noise, "the loss", 2)
        if (deviation := entry.get("noise_sd")) is not None:
            scatter = f"{deviation:.3g}"
        yield (
            f"  objective {reached} ({loss['name']}{knee} on {loss['on']} loss, summed over {entry['n']}); {ended}, "
            f"{evidence['agreed']} of {evidence['starts']} starts agree; noise {scatter}"
        )
        if "verdict" in entry:
            yield f"  verdict of the runs: {entry['verdict']['words']}"


def _number(entry: FittedEntry, name: str, value: float | None) -> str:
    """One parameter: its value and interval where identified, else the flag's sentence in its place."""
    flag = entry["identification"].get(name)
    found = {**entry["intervals"], **entry["derived_intervals"]}.get(name)
    if value is not None and name in entry.get("held", {}):
        return f"{name} = {value:.10g} (held)"
    if value is None or name in entry["evidence"]["unseen"]:
        return f"{name} is not determined by these observations"
    if flag is not None and flag["kind"] != "identified":
        return str(flag["sentence"])
    if found is None:
        return f"{name} = {value:.5g} (no interval: {no_interval(entry)})"
    return f"{name} = {value:.5g} {interval(found['low'], found['high'])}"


def _isoflop(results: Results) -> Iterator[str]:
    study = results["isoflop"]
    if study is None:
        return
    percent = f"{results['settings']['level']:.0%}"
    yield f"isoFLOP: {len(study['budgets'])} budgets. {study['why']}"
    used = study["used"]
    for budget in study["budgets"]:
        one = budget["estimates"].get(used)
        head = f"  C {budget['budget_flops']:.3g} ({counted(results, budget['observations'])}): "
        if one is None or one["params"]["value"] is None:
            yield head + "no minimum" + (" (EDGE)" if budget["edge"] else "")
            continue
        params, tokens = one["params"], one["tokens"]
        yield (
            f"{head}N* {params['value']:.3g} {interval(params['low'], params['high'], 3)}, "
            f"D* {tokens['value']:.3g} {interval(tokens['low'], tokens['high'], 3)}, "
            f"loss {one['loss']['value']:.4f}{' (EDGE)' if budget['edge'] else ''}"
        )
    laws = study["laws"][used]
    for law, symbol in ((laws["params"], "N*"), (laws["tokens"], "D*"), (laws["loss"], "loss")):
        if law["exponent"] is None:
            yield f"  {symbol} against C: {law['why']}"
            continue
        ends: Ends = law["interval"] or NO_ENDS
        floor = f"{law['floor']:.4g} + " if law["floor"] else ""
        yield (
            f"  {symbol} = {floor}{law['coefficient']:.4g} C^{law['exponent']:.4f}, exponent {percent} "
            f"{interval(ends['low'], ends['high'])}"
        )
    yield f"  intervals: {study['noise']['words']}"


def _envelope(results: Results) -> Iterator[str]:
    envelope = results["envelope"]
    if envelope is None:
        return
    for name, law in envelope["laws"].items():
        ends: Ends = law["interval"] or NO_ENDS
        yield f"envelope ({name}): N* ~ C^{law['exponent']:.3f} {interval(ends['low'], ends['high'], 3)}"
    for warning in envelope["warnings"]:
        yield f"  {warning}"


def _holdout(results: Results) -> Iterator[str]:
    table = results["holdout"]["table"] if results["holdout"] is not None else []
    if any(row["rmse"] is not None for row in table):
        yield "hold-out (fit the smaller budgets, predict the larger), best first:"
    for row in table:
        if row["rmse"] is not None and row["bias"] is not None:
            covered = "not judged" if row["coverage"] is None else f"{row['coverage']:.0%} of {row['level']:.0%}"
            yield (
                f"  {row['law']}: error {share_text(row['rmse'], 2)}, "
                f"bias {share_of(row['bias'], 'the loss', 2, signed=True)} over {row['predictions']} predictions "
                f"up to {row['longest_decades']:.1f} decades; covered {covered}"
            )


def _health(results: Results) -> Iterator[str]:
    health = results["health"]
    found = {"collapse": health["collapse"], "noise scale": health["noise_scale"], "seed noise": health["seed_noise"]}
    for name, one in found.items():
        yield f"{name}: {one['verdict'] if 'verdict' in one else 'not measured: ' + one['why']}"


def _decision(results: Results) -> Iterator[str]:
    found = results["forecast"]["at_target"]
    if found is None:
        return
    yield f"at C = {found['flops']:.3g} ({found['law']}): {describe(found)}"
    yield from (f"  {line}" for line in members_in_words(found))
    choices = results["choices"]
    if choices is not None and choices["spread"]["params"]:
        low, high = choices["spread"]["params"]
        spread = choices["spread"]
        unanswered = spread["analyses"] - spread["answered"]
        without = f" ({unanswered} more gave no optimum)" if unanswered else ""
        yield f"  Across {spread['answered']} reasonable analyses N* ranges from {low:.3g} to {high:.3g}{without}"
    if largest := _largest_move(results["influence"]):
        run, change = largest
        moved = move_text(change)
        yield f"  most influential run: {run}{_which(results, run)}; without it N* moves by {moved}"


def _ground_truth(results: Results) -> Iterator[str]:
    section = results.get("ground_truth")
    if section is None:
        return
    yield f"ground truth, {section['law']}: {section['words']}"
    for one in section["exponents"]:
        measured = f"{one['value']:.4g} {interval(one['low'], one['high'])}"
        yield f"  {one['quantity']} by {one['by']}: {measured}, known {one['known']:.4g}"
