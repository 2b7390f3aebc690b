"""A study of fine-tuned runs, from their records alone to finetune.json (`scaling.analysis.schema.finetuning`)."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from scaling.analysis.schema.finetuning import (
    BudgetTransfer,
    EffectiveData,
    Gain,
    ScratchPoint,
    SeedMean,
    TransferLawEntry,
    TunedCurve,
    TunedFacts,
    TunedFamily,
    TunedPoint,
    TunedResults,
    Won,
)
from scaling.analysis.studies.data_transfer import WITHIN, Effective, TransferLaw, effective_data, fit_transfer
from scaling.records.record import DONE, RunRecord, read_records

LATE, LATE_SHARE = 0.9, 0.25  # of the steps, of the runs: beyond, a curve is of steps as much as of data


def holds_finetuned(study: Path) -> bool:
    """Whether the study's finished runs were fine-tuned, all of them."""
    records = read_records(study, damaged=[]) if study.is_dir() else []
    return bool(records) and all(record.finetuned is not None for record in records)


def analyse(study: Path) -> TunedResults:
    """The results document; ValueError where the study holds no finished fine-tuned run."""
    damaged: list[str] = []
    finished = [record for record in read_records(study, damaged) if record.status == DONE]
    records = [record for record in finished if record.finetuned is not None]
    if not records:
        raise ValueError(f"{study} holds no finished fine-tuned run; `scaling finetune` makes them")
    asked = {record.spec["finetuned"]["task"] for record in records}
    if len(asked) > 1:
        raise ValueError(f"{study} mixes tasks ({', '.join(sorted(asked))}), whose scores cannot be compared")
    families: dict[str, list[RunRecord]] = {}
    for record in records:
        families.setdefault(f"{record.spec['model']['kind']}, {record.spec['objective']['kind']}", []).append(record)
    first = _facts(records[0])
    return {
        "schema": 1,
        "study": study.name,
        "task": asked.pop(),
        "metric": first["metric"],
        "classes": first["classes"],
        "val_examples": first["val_examples"],
        "notes": [*damaged, *_notes(records)],
        "families": {name: _family(runs) for name, runs in sorted(families.items())},
    }


def _facts(record: RunRecord) -> TunedFacts:
    """The fine-tuning part of a record, which is JSON that `scaling finetune` wrote."""
    return cast(TunedFacts, record.finetuned)


def _notes(records: Sequence[RunRecord]) -> list[str]:
    """Cautions that a reader must know before believing the numbers."""
    notes = []
    recipes: dict[int, set[str]] = {}
    for record in records:
        own = recipes.setdefault(record.spec["finetuned"]["examples"], set())
        own.add(json.dumps(record.spec["recipe"], sort_keys=True))
    if mixed := [size for size, own in recipes.items() if len(own) > 1]:
        notes.append(f"runs on {mixed[0]:,} examples were fine-tuned by {len(recipes[mixed[0]])} recipes")
    late = sum(_facts(record)["best_step"] > LATE * record.steps for record in records)
    if late > LATE_SHARE * len(records):
        notes.append(
            f"{late} of {len(records)} runs were best in the last {1 - LATE:.0%} of their steps: they may have ended "
            f"for want of steps (recipe.steps, recipe.epochs) rather than of examples"
        )
    if any(_facts(record)["seen_in_pretraining"] for record in records):
        known = "though no labels" if _facts(records[0])["classes"] else "with their answers"
        notes.append(
            f"the pretraining text holds this task's texts, those that are scored among them, {known}: this is "
            f"transfer within a text, not to another"
        )
    if all(_facts(record)["parent"] is not None for record in records):
        notes.append("no control from scratch shows the gain from pretraining")
    seeds = {record.spec["seed"] for record in records}
    if len(seeds) == 1:
        notes.append("one seed: differences between two runs hold luck of the drawn examples and of the order")
    return notes


def _shape(record: RunRecord) -> str:
    return json.dumps(record.spec["model"], sort_keys=True)


def _family(records: Sequence[RunRecord]) -> TunedFamily:
    scratch: dict[tuple[str, int], list[RunRecord]] = {}
    tuned: dict[tuple[str, int], list[RunRecord]] = {}
    for record in records:
        parent = _facts(record)["parent"]
        key = (_shape(record) if parent is None else parent["run_id"], record.spec["finetuned"]["examples"])
        (scratch if parent is None else tuned).setdefault(key, []).append(record)
    control = {key: _mean(runs) for key, runs in scratch.items()}
    points: list[TunedPoint] = []
    for (_, examples), runs in sorted(tuned.items(), key=lambda item: (item[0][1], item[0][0])):
        parent, shape = _facts(runs[0])["parent"], _shape(runs[0])
        assert parent is not None
        curve = sorted((size, one["loss"]) for (of, size), one in control.items() if of == shape)
        own, against = _mean(runs), scratch.get((shape, examples), [])
        found = effective_data([s for s, _ in curve], [loss for _, loss in curve], own["loss"], examples)
        points.append(
            {
                "parent": parent["run_id"],
                "params": parent["n_params"]["non_embedding"],
                "pretraining_flops": parent["train_flops"],
                "budget_flops": parent["budget_flops"] or parent["train_flops"],
                "pretraining_tokens": parent["train_tokens"],
                "pretraining_loss": parent["val_loss_nats"],
                "examples": examples,
                **own,
                "scratch": control.get((shape, examples)),
                "gain": paired_gain(runs, against),
                "transfer": _effective(found),
            }
        )
    return {
        "points": points,
        "curves": _curves(points),
        "scratch": [
            _scratch_point(examples, runs)
            for (_, examples), runs in sorted(scratch.items(), key=lambda item: item[0][1])
        ],
        "transfer": _laws(points),
        "won": _won(points),
    }


def _scratch_point(examples: int, runs: Sequence[RunRecord]) -> ScratchPoint:
    return {"params": runs[0].n_params["non_embedding"], "examples": examples, **_mean(runs)}


def _effective(found: Effective) -> EffectiveData:
    return {"status": found.status, "data": found.data, "transferred": found.transferred, "why": found.why}


def _mean(runs: Sequence[RunRecord]) -> SeedMean:
    """Loss and score, the mean of seeds; the standard error is of one run's scored examples, which seeds share."""
    scores = [_facts(run)["scores"][_facts(run)["metric"]] for run in runs]
    errors = [one["se"] for one in scores if one["se"] is not None]
    return {
        "loss": float(np.mean([run.val_loss_nats for run in runs if run.val_loss_nats is not None])),
        "score": float(np.mean([one["value"] for one in scores])),
        "score_se": float(np.mean(errors)) if errors else None,
        "seeds": len(runs),
        "finetuning_flops": runs[0].train_flops,
        "run_ids": [run.run_id for run in runs],
    }


def paired_gain(runs: Sequence[RunRecord], controls: Sequence[RunRecord]) -> Gain | None:
    """The distance of the loss below the control's, with the standard error over documents that both were scored on.

    Documents differ far more from each other than two models do on one, so the error of the difference is much smaller
    than either model's. Seeds that both arms have are averaged. None without a common seed.
    """
    by_seed = {control.spec["seed"]: _facts(control) for control in controls}
    pairs = [(_facts(run), by_seed[run.spec["seed"]]) for run in runs if run.spec["seed"] in by_seed]
    if not pairs:
        return None
    differences, counts = (
        np.mean([np.subtract(theirs["val_loss_sums"], own["val_loss_sums"]) for own, theirs in pairs], axis=0),
        np.array(pairs[0][0]["val_counts"]),
    )
    gain, buckets = float(differences.sum() / counts.sum()), len(counts)
    if buckets < 2:
        return {"value": gain, "se": None}
    spread = float(np.sum((differences - gain * counts) ** 2)) / (buckets - 1)  # Cochran 1977, 2.11
    return {"value": gain, "se": math.sqrt(spread / buckets) * buckets / float(counts.sum())}


def _curves(points: Sequence[TunedPoint]) -> list[TunedCurve]:
    """The runs that pretraining alone would choose at each budget, by fine-tuning size."""
    curves: list[TunedCurve] = []
    for examples in sorted({point["examples"] for point in points}):
        budgets: dict[float, list[TunedPoint]] = {}
        for point in points:
            if point["examples"] == examples:
                budgets.setdefault(point["budget_flops"], []).append(point)
        chosen = [
            min(found, key=lambda point: math.inf if point["pretraining_loss"] is None else point["pretraining_loss"])
            for _, found in sorted(budgets.items())
        ]
        curves.append({"examples": examples, "points": chosen})
    return curves


def _laws(points: Sequence[TunedPoint]) -> list[BudgetTransfer]:
    """The law of transferred data at each pretraining budget, or the reason why there is none."""
    laws: list[BudgetTransfer] = []
    for budget in sorted({point["budget_flops"] for point in points}):
        own = [point for point in points if point["budget_flops"] == budget]
        used = [
            (p["examples"], p["params"], worth)
            for p in own
            if p["transfer"]["status"] == WITHIN and (worth := p["transfer"]["transferred"] or 0.0) > 0
        ]
        examples, params, values = np.array(used, dtype=float).reshape(-1, 3).T
        left_out = len(own) - len(used)
        law = fit_transfer(examples, params, values, left_out)
        fitted, why = (_law_entry(law), "") if isinstance(law, TransferLaw) else (None, law)
        laws.append({"budget_flops": budget, "left_out": left_out, "law": fitted, "why": why})
    return laws


def _law_entry(law: TransferLaw) -> TransferLawEntry:
    return {
        "k": law.k,
        "alpha": law.alpha,
        "beta": law.beta,
        "alpha_se": law.alpha_se,
        "beta_se": law.beta_se,
        "rms": law.rms,
        "points": law.points,
    }


def _won(points: Sequence[TunedPoint]) -> list[Won]:
    won: list[Won] = []
    for examples in sorted({point["examples"] for point in points}):
        pairs = [(p, p["scratch"]) for p in points if p["examples"] == examples]
        paired = [(own, scratch) for own, scratch in pairs if scratch is not None]
        gains = [own["score"] - scratch["score"] for own, scratch in paired]
        won.append(
            {
                "examples": examples,
                "pairs": len(paired),
                "won": sum(own["loss"] < scratch["loss"] for own, scratch in paired),
                "surely": sum(_sure(own["gain"]) for own, _ in paired),
                "score_gain": float(np.mean(gains)) if gains else None,
            }
        )
    return won


def _sure(gain: Gain | None) -> bool:
    """Whether a gain is more than two of its standard errors."""
    return gain is not None and gain["se"] is not None and gain["value"] > 2 * gain["se"]
