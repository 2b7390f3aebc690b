"""Studies simulated from a known law, as tables and as run folders."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.analysis.design.grading import grades_section
from scaling.analysis.design.registration import register
from scaling.analysis.judgement.forecast import predict
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.law import SIX_N_D
from scaling.analysis.laws.size_and_data import Chinchilla
from scaling.analysis.runs.observations import Observations, load
from scaling.records.record import RunRecord, publish_record
from tests.examples import RECORD

TRUTH = Chinchilla(E=1.9, A=120.0, B=900.0, alpha=0.35, beta=0.37)
BUDGETS = (1e14, 3e14, 1e15, 3e15)
SPREADS = (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0)


def table(
    *,
    budgets: Sequence[float] = BUDGETS,
    spreads: Sequence[float] = SPREADS,
    seeds: int = 1,
    noise_nats: float = 0.0,
    seed: int = 0,
    truth: Chinchilla = TRUTH,
    shift: float = 1.0,
    cost: Cost = SIX_N_D,
) -> pd.DataFrame:
    """A grid of sizes around every budget's optimum, times `shift`, with normal noise on the loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for budget in budgets:
        for spread in spreads:
            params = float(truth.optimum(budget, cost).N) * spread * shift
            tokens = cost.tokens(budget, params)
            for _ in range(seeds):
                loss = float(truth(N=params, D=tokens)) + noise_nats * rng.standard_normal()
                rows.append((params, tokens, budget, loss, budget))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss", "budget"])


def observe(frame: pd.DataFrame, folder: Path, **options: Any) -> Observations:
    """The table as a reader of its CSV sees it."""
    path = folder / "runs.csv"
    frame.to_csv(path, index=False)
    return load(path, **options)


def profile(record: RunRecord, machine: str = "a CPU") -> dict[str, Any]:
    """What `scaling profile` would leave beside a record, proportional to its size."""
    total, loss = record.n_params["total"], record.val_loss_nats
    assert loss is not None
    storage = {
        name: (total * size, loss + more) for name, size, more in (("fp32", 4, 0), ("bf16", 2, 0), ("int8", 1, 0.01))
    }
    return {
        "run_id": record.run_id,
        "weights_sha256": record.weights_sha256,
        "hardware": {"name": machine, "device": "cpu", "threads": 1},
        "precision": "fp32",
        "prefill": {"words": "a pass", "median_s": 1e-9 * total},
        "generation": {"words": "a step", "median_s": 1e-10 * total},
        "no_generation": "",
        "batches": [{"batch": 1, "peak_memory_bytes": 5 * total}],
        "storage": {name: {"bytes": size, "loss_nats": left} for name, (size, left) in storage.items()},
    }


def with_forecast(results: Any, study: Path) -> Any:
    """A study's results with the grade of one registered forecast, which waits for its run."""
    (study / "results.json").write_text(json.dumps(results))
    ahead = predict(results, flops=1e16)
    register(results, ahead, study / "results.json", study, code={"version": "0", "commit": None})
    return results | {"registered": grades_section(study)}


NOISE_SCALE = 4096.0  # tokens, of a study's runs
BYTES_PER_TOKEN = 1.25


def write_study(root: Path, *, points: int = 60, cooldown: bool = True, repeats: int = 0) -> Path:
    """Run folders with records and training curves: BUDGETS x SPREADS, one diverged run and one unfinished; of every
    optimal size so many repeats under other seeds.
    """
    rng, drawn = np.random.default_rng(0), np.random.default_rng(1)
    runs = table(noise_nats=0.005).assign(seed=0)
    best = runs[runs.index % len(SPREADS) == SPREADS.index(1.0)]
    again = [best.assign(seed=s + 1, loss=best["loss"] + 0.004 * drawn.standard_normal(4)) for s in range(repeats)]
    for k, row in enumerate(pd.concat([runs, *again]).itertuples()):
        size, steps = round(row.params), max(round(row.tokens / 1024), 1)
        tokens, head = steps * 1024, round(20 * row.params**0.5)
        run = root / f"run{k:02d}"
        (run / "attempts" / "0001").mkdir(parents=True)
        schedule = {"kind": "wsd", "warmup_steps": 10, "cooldown_steps": steps // 5 if cooldown else 0}
        spec = {"model": {"d_model": 32}, "recipe": {"steps": steps, "schedule": schedule}, "seed": row.seed}
        (run / "spec.json").write_text(json.dumps(spec))
        record = replace(
            RECORD,
            run_id=run.name,
            study=root.name,
            spec=spec,
            n_params={"total": size + 2 * head, "non_embedding": size, "non_embedding_head": size + head},
            flops_convention="exact: matrix multiplications, forward and backward",
            budget_flops=row.budget,
            train_flops=6 * (size + head) * tokens,
            train_tokens=tokens,
            predicted_tokens=tokens,
            unique_tokens=2 * tokens,
            val_loss_nats=row.loss,
            val_bits_per_byte=row.loss / (np.log(2) * BYTES_PER_TOKEN),
            trunk={"id": f"trunk{k % len(SPREADS)}", "steps": steps - steps // 5, "paid_by": None}
            if cooldown
            else None,
        )
        assert publish_record(run, record)
        (run / "profile.json").write_text(json.dumps(profile(record)))
        (run / "attempts" / "0001" / "meta.json").write_text(json.dumps({"resumed_from_step": 0}))
        lines = []
        for step in np.unique(np.geomspace(1, steps, points).astype(int)):
            seen = int(step) * 1024
            loss = min(float(TRUTH(N=size, D=seen)) * 1.02, 9.0) + 0.01 * rng.standard_normal()
            lines.append({"step": int(step), "tokens": seen, "flops": 6 * (size + head) * seen, "train_loss": loss})
            square, trace = 1e-4 * drawn.gamma(9, 1 / 9, 2)
            lines[-1]["lr"] = 1e-3 * min(1.0, (steps - int(step)) / (steps // 5 + 1)) if cooldown else 1e-3
            lines[-1] |= {"grad_square": square, "grad_trace": trace * NOISE_SCALE, "noise_steps": 1}
        lines[-1] |= {"val_loss": row.loss, "val_loss_se": 0.004, "val_bpb": row.loss}
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "attempts" / "0001" / "metrics.jsonl").write_text(text)
    for name in ("diverged", "unfinished"):
        (root / name).mkdir()
        (root / name / "spec.json").write_text("{}")
    lost = replace(RECORD, run_id="diverged", study=root.name, status="diverged", why="loss 31.2 at step 40")
    assert publish_record(root / "diverged", lost)
    return root
