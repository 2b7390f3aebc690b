"""The target of a forecast: the run that it is about, and the records that count as this run.

A record is the target's where its counts lie within a small factor of the target's and its settings agree with all that
the runs behind the forecast share: data, tokenizer, family, objective, validation set and treatment. Of a target that
names compute alone, the size may lie further from the predicted optimum, where the loss is flat: by a factor of 1.25 it
rises by less than 0.1% (measured on the quickstart's law).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaling.analysis.laws.cost import FLOPS_PER_PARAM_TOKEN
from scaling.analysis.runs.column_names import COUNTS_OF_PARAMS
from scaling.analysis.runs.comparable import DECIDES, OBJECTIVE, TREATMENTS
from scaling.analysis.runs.reading import flatten
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.forecast import Given, LossPrediction, OptimumPrediction, Prediction
from scaling.analysis.schema.registered import Target
from scaling.records.record import RunRecord, read_records

SAME = 1.05  # factor between equal counts: a run's steps and widths are whole numbers
NEAR_OPTIMUM = 1.25  # factor between a size and the predicted optimum
SETTINGS = (*DECIDES, *TREATMENTS, "model.context", "val_tokens")
DATA = "data."


def target_of(results: Results, prediction: Prediction, folder: Path) -> Target:
    """The target of a prediction from results of runs in a folder; ValueError for a prediction that names no run."""
    if "params" in prediction:
        optimum: OptimumPrediction = prediction
        counts = (optimum["params"]["value"], optimum["tokens"]["value"], optimum["flops"])
        within: dict[Given, float] = {"flops": SAME, "params": NEAR_OPTIMUM}
    elif "params_given" in prediction:
        point: LossPrediction = prediction
        counts = (point["params_given"], point["tokens_given"], point["flops"])
        # A size and a compute are matched as given: the tokens beside them rest on an extrapolated cost.
        within = {"params": SAME, "flops" if "flops" in point["given"] else "tokens": SAME}
    else:
        raise ValueError(
            f"--register: {prediction['law']} is a law of one variable, and its forecast names no run; fit a law of "
            "params and tokens, such as --law chinchilla"
        )
    words = results["conventions"]["params"]
    counted = next((name for name, stated in COUNTS_OF_PARAMS.items() if stated == words), None)
    if counted is None:
        ways = ", ".join(COUNTS_OF_PARAMS)
        raise ValueError(
            f"--register: the fit counts {words}, and a record counts {ways}: fit again with --params and one of these"
        )
    params, tokens, flops = counts
    return {
        "given": {**prediction["given"]},
        "params": params,
        "tokens": tokens,
        "flops": flops,
        "counted": counted,
        "counted_flops": "6nd" if "6 N D" in results["conventions"]["flops"] else "exact",
        "within": within,
        "settings": shared_settings(results, folder),
    }


def shared_settings(results: Results, folder: Path) -> dict[str, str]:
    """Settings in which all recorded runs behind the results agree; none where they are records of no study here."""
    used = set(results["observations"]["run_id"])
    studies = [path for path in (folder, *map(Path, results["source"])) if path.is_dir()]
    rows = [_settings(record) for record in records_of(studies) if record.run_id in used]
    if not rows:
        return {}
    first, *others = rows
    return {name: value for name, value in first.items() if all(row.get(name) == value for row in others)}


def _settings(record: RunRecord) -> dict[str, str]:
    flat = flatten(record.spec)
    return {
        name: str(value)
        for name, value in sorted(flat.items())
        if name in SETTINGS or name.startswith((OBJECTIVE, DATA))
    }


def counts(target: Target, record: RunRecord) -> dict[Given, float]:
    """The counts of a record under the target's conventions."""
    params, tokens = float(record.n_params[target["counted"]]), float(record.train_tokens)
    exact = target["counted_flops"] == "exact"
    flops = float(record.train_flops) if exact else FLOPS_PER_PARAM_TOKEN * params * tokens
    return {"params": params, "tokens": tokens, "flops": flops}


def is_near(target: Target, record: RunRecord) -> bool:
    """Whether the counts of a record lie within the target's factors; the settings are not looked at."""
    found, wanted = counts(target, record), {name: target[name] for name in target["within"]}
    if record.continued is not None or record.finetuned is not None:
        return False
    within = target["within"].items()
    return all(found[name] > 0 and abs(math.log(found[name] / wanted[name])) <= math.log(most) for name, most in within)


def differing(target: Target, record: RunRecord) -> dict[str, tuple[str, str]]:
    """Settings in which a record departs from the target: the target's value and the record's own, by name."""
    own: Mapping[str, str] = _settings(record)
    return {
        name: (value, own.get(name, "not stated"))
        for name, value in target["settings"].items()
        if own.get(name, "not stated") != value
    }


def matching(target: Target, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records that count as the target, the first to finish first."""
    found = [record for record in records if is_near(target, record) and not differing(target, record)]
    return sorted(found, key=lambda record: record.ended_at)


def records_of(studies: Sequence[Path]) -> list[RunRecord]:
    """Every record of some studies' finished runs, damaged ones left out; ValueError for a study that is no folder."""
    return [record for study in studies for record in read_records(study, damaged=[])]
