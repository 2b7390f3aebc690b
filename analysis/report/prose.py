"""The words of the report and the order of its sections, from a results document alone."""

from collections.abc import Iterable, Sequence

from scaling.analysis.figures.elements import bits_of, law_in_use
from scaling.analysis.judgement.forecast import cost_of
from scaling.analysis.report import fit_tables, tables
from scaling.analysis.report.blocks import Answer, Section, Table, stated
from scaling.analysis.report.facts import RepeatFacts
from scaling.analysis.report.grades import grades
from scaling.analysis.report.ground_truth import ground_truth
from scaling.analysis.results.run_words import counted, outside
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.intervals import NO_ENDS
from scaling.analysis.schema.isoflop import PowerLawEntry
from scaling.analysis.words import count, flops_text, scientific, sentence


def scope(results: Results) -> str:
    """The runs and ranges of the analysis, in a line."""
    span = results["range"]
    spans = []
    if span["params"]:
        spans.append(f"{count(span['params'][0])} to {count(span['params'][1])} parameters")
    if span["tokens"]:
        spans.append(f"{count(span['tokens'][0])} to {count(span['tokens'][1])} tokens")
    if span["flops"]:
        spans.append(f"{scientific(span['flops'][0])} to {flops_text(span['flops'][1])}")
    return f"{counted(results)}, {len(results['excluded'])} excluded; {', '.join(spans)}"


def answer(results: Results) -> Answer:
    """The answer in a sentence with intervals, how far it can be trusted, and the answers of other ways."""
    target = results["forecast"]["at_target"]
    lead, more, trust, calibrated = [], [], "", False
    if target:
        size = stated(target["params"]["value"], target["params"], count, f"{target['level']:.0%} interval")
        tokens = stated(target["tokens"]["value"], target["tokens"], count)
        loss = stated(target["loss"]["value"], target["loss"], lambda value: f"{value:.3f}")
        lead.append(
            f"To spend {flops_text(target['flops'])} best, train a model of {size} parameters on {tokens} tokens: "
            f"expect a loss of {loss} nats per token{_in_bits(results, target['loss']['value'])}."
        )
        trust, calibrated = sentence(target["words"]), target["calibrated"] and not results["warnings"]
        if target["calibrated"] and results["warnings"]:
            trust += " Read the warnings at the top first."
        whose = f"the {target['law']}" if "members" in target else f"the {target['law']} law's optimum"
        more.append(" ".join(map(sentence, [f"this is {whose}", *target["notes"]])))
    else:
        lead.append(
            "No fitted law of parameters and tokens has a compute optimum, so nothing is predicted beyond the runs."
        )
    more += _member_verdicts(results)
    more += _isoflop_sentences(results)
    more += _spread_sentence(results)
    return Answer(lead, more, trust, calibrated, tables.members(results))


def _in_bits(results: Results, nats: float) -> str:
    """The same loss in bits per byte, where all runs have as many bytes to a token."""
    bits = bits_of(results)
    return "" if bits is None else f", {nats * bits:.3f} bits per byte"


def _member_verdicts(results: Results) -> list[str]:
    """The verdict on every forecaster behind the headline, in a sentence."""
    section = results["forecast"].get("ensemble")
    members = [] if section is None else section["members"]
    each = [f"{one['name']} {one['verdict']['words']}" for one in members if "verdict" in one]
    return [sentence(f"verdicts of the runs: {'; '.join(each)}")] if each else []


def _law_verdicts(results: Results) -> list[str]:
    """The verdict on every fitted law, a sentence each."""
    return [
        sentence(f"verdict of the runs on {entry['name']}: {entry['verdict']['words']}")
        for entry in results["fits"]
        if entry["status"] != "refused" and "verdict" in entry
    ]


def _isoflop_sentences(results: Results) -> list[str]:
    study = results["isoflop"]
    if study is None:
        return []
    params, tokens = law_in_use(study, "params"), law_in_use(study, "tokens")
    found = [
        f"{symbol} grows as compute to the power "
        f"{stated(law['exponent'], law['interval'] or NO_ENDS, lambda v: f'{v:.3f}')}"
        for law, symbol in ((params, "N*"), (tokens, "D*"))
        if law is not None
    ]
    if not found:
        laws = study["laws"].get(study["used"], {})
        why = next((law["why"] for law in laws.values() if law["exponent"] is None), "")
        return [sentence(f"isoFLOP: {why}")] if why else []
    at_target = _isoflop_at_target(results, params)
    return [f"From the minima of {len(study['budgets'])} compute budgets alone: {', and '.join(found)}{at_target}."]


def _isoflop_at_target(results: Results, law: PowerLawEntry | None) -> str:
    """The size by the power law through the minima at the target, beside the fitted law's."""
    target = results["forecast"]["at_target"]
    if law is None or not target:
        return ""
    size = law["coefficient"] * target["flops"] ** law["exponent"]
    return f", which gives N* = {count(size)} at {flops_text(target['flops'])}"


def _spread_sentence(results: Results) -> list[str]:
    choices = results["choices"]
    ends = choices["spread"]["params"] if choices is not None else None
    if choices is None or ends is None:
        return []
    spread, (least, most) = choices["spread"], ends
    return [
        f"Across {spread['answered']} reasonable analyses by the {choices['law']} law "
        f"N* at {flops_text(choices['target_flops'])} ranges from "
        f"{count(least)} to {count(most)} parameters."
    ]


def what_if_words(results: Results, repeats: RepeatFacts) -> str:
    """Words about the calculator: its laws and its assumptions."""
    names, section = results["forecast"]["forms"], results["forecast"].get("ensemble")
    forms = f"Laws: {', '.join(names)}; the first gives the values." if len(names) > 1 else f"By the {names[0]} law."
    spreads = "Intervals hold the parameters', one run's and the form's spread."
    if section is not None:
        forms = f"By the {section['name']}; serving and repeats move it as they move its laws of N and D."
        spreads = "Intervals hold the errors of its roll-outs by distance and one run's noise."
    return (
        f"{forms} Training costs {cost_of(results)}; serving a token costs a "
        "third of that, its forward pass, and is paid from the same compute. Tokens beyond the unique "
        f"ones are repeats, worth less and less: {repeats['words']}. {spreads} {sentence(_calibration(results))}"
    )


def _calibration(results: Results) -> str:
    section = results["forecast"].get("ensemble")
    if section is not None:
        return section["words"]
    words = [one["words"] for one in results["forecast"]["calibration"].values() if one["words"]]
    return "; ".join(dict.fromkeys(words)) or "none was scored"


def sections(results: Results) -> list[Section]:
    """Every section of the page, in the order of a reader's questions."""

    def section(id: str, title: str, figures: Sequence[str] = (), words: Iterable[str] = (), *tables: Table) -> Section:
        return Section(id, title, figures, [w for w in words if w], tables)

    graded = grades(results)
    registered = [section("registered", "Registered forecasts", ("registered",), (), graded)]
    return [
        section("answer", "Answer"),
        *(registered if graded.rows else []),
        section("ground-truth", "Does this machine measure what it should?", (), (), ground_truth(results)),
        section(
            "isoflop", "IsoFLOP minima", ("isoflop", "estimators"), [_noise_words(results)], tables.budgets(results)
        ),
        section("allocation", "Optimal size and tokens", ("allocation", "exponents"), (), tables.exponents(results)),
        section("what-if", "What if"),
        section("predicted", "Predicted against measured", ("held_out", "predicted")),
        section("loss-laws", "Loss laws", ("kaplan", "loss_laws")),
        section("surface", "Loss surface", ("surface",)),
        section("residuals", "Residuals", ("residuals",)),
        section(
            "rollout",
            "Roll-out",
            ("rollout",),
            [sentence(_calibration(results))],
            tables.rollouts(results),
            tables.unscored(results),
        ),
        section("choices", "Choices", ("choices",), (), tables.choices(results)),
        section("influence", "Influence", ("influence",)),
        *([] if graded.rows else registered),
        section("prices", "Prices of the models", ("prices", "serving")),
        section("envelope", "Envelope and training curves", ("envelope", "training_curves", "cooldowns")),
        section("health", "Health", ("collapse", "noise_scale", "seed_noise"), [_errors_words(results)]),
        section(
            "fits",
            "Fits and their evidence",
            ("parameters",),
            _law_verdicts(results),
            *fit_tables.parameters(results),
            fit_tables.evidence(results),
        ),
        section(
            "data",
            "Data",
            (),
            map(sentence, [*results.get("inferred", []), *results["notes"]]),
            tables.excluded(results),
            tables.observations(results),
        ),
        section("settings", "Settings and conventions", (), (), tables.settings(results)),
    ]


def _errors_words(results: Results) -> str:
    return sentence(f"in every fit of this report {results['settings']['errors_words']}")


def _noise_words(results: Results) -> str:
    study = results["isoflop"]
    if study is None:
        return ""
    return sentence("; ".join(filter(None, [f"intervals: {study['noise']['words']}", outside(results)])))
