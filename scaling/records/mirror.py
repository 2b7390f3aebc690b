"""A run as trackers show it: its name, its tags and config before it starts, its summary when it has ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.quantities import as_setting, short
from scaling.records.record import RunRecord, read_metrics
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.run_spec import FinetunedSpec, ImportedSpec, RunSpec, to_dict
from scaling.trackers.tracker import TrackedRun


def tracked_run(
    spec: RunSpec, study: str, question: str | None, budget_flops: float | None, run_dir: Path
) -> TrackedRun:
    """The run of a spec for trackers: a name of its size, budget, tokens and seed, and a config with all counts."""
    counts = parameter_counts(spec.model)
    size = counts["non_embedding"]
    kind, about = "pretrain", [f"{short(size)} params"]
    if isinstance(spec, ImportedSpec):
        kind = "import"
    elif isinstance(spec, FinetunedSpec):
        kind, tuned = "finetune", spec.finetuned
        about += [f"{tuned.task} {tuned.examples} examples", "pretrained" if tuned.parent else "scratch"]
    if budget_flops is not None:
        about.append(f"{as_setting(budget_flops)} FLOPs")
    about += [f"{short(spec.train_tokens)} tokens", f"seed {spec.seed}"]
    config = {
        **to_dict(spec),
        "study": study,
        "question": question,
        "n_params": counts,
        "params_by_group": spec.model.parameters_by_group(),
        "budget_flops": budget_flops,
        "planned": {
            "train_tokens": spec.train_tokens,
            "tokens_per_param": spec.train_tokens / size,
            "batch_tokens": spec.batch_tokens,
        },
    }
    tags = (spec.model.kind, spec.objective.kind, spec.data.kind, spec.recipe.optimizer.kind)

    def rows() -> list[dict[str, Any]]:
        return read_metrics(run_dir, damaged=[])

    return TrackedRun(spec.run_id, study, kind, ", ".join(about), config, tuple(dict.fromkeys(tags)), rows)


def run_summary(record: RunRecord) -> Mapping[str, Any]:
    """The numbers of a published record that a tracker shows beside the run."""
    return {
        "why": record.why,
        "val_loss_nats": record.val_loss_nats,
        "val_loss_se_nats": record.val_loss_se_nats,
        "val_bits_per_byte": record.val_bits_per_byte,
        "train_flops": record.train_flops,
        "train_tokens": record.train_tokens,
        "epochs": record.epochs,
        "steps": record.steps,
        "wall_s": record.wall_s,
        "train_s": record.train_s,
        "attempts": record.attempts,
        "hardware": record.hardware,
        "git_commit": record.git_commit,
        "n_params": record.n_params,
    }
