"""Hopeless runs, which `budget.stop_early` stops: late in their training they are far above what less compute gives."""

from collections.abc import Mapping
from typing import Any

from scaling.plan.run import Run
from scaling.records.orders import read_orders
from scaling.records.record import DONE, RunRecord, read_records
from scaling.spec.run_spec import to_dict

LATE = 0.5  # share of its steps from which a run is judged; its learning rate has yet to fall then
COMPARED = ("data", "objective")  # parts of a spec that losses have in common which are compared


def hopeless(run: Run, row: Mapping[str, Any]) -> str:
    """The reason why a run with this metric row is hopeless; empty where it is not, or a user let it go on.

    The validation loss lies more than the share `budget.stop_early` above that of a finished run of the study on the
    same data and objective that cost no more FLOPs than the row.
    """
    share, loss = run.budget.stop_early, row.get("val_loss")
    if share is None or loss is None or not LATE * run.spec.recipe.steps <= row["step"] < run.spec.recipe.steps:
        return ""
    if "forgiven_attempts" in read_orders(run.directory):  # by `scaling retry`
        return ""
    spec = to_dict(run.spec)

    def is_comparable(record: RunRecord) -> bool:
        same = all(record.spec.get(name) == spec[name] for name in COMPARED)
        return same and record.status == DONE and record.train_flops <= row["flops"]

    losses = {
        record.run_id: record.val_loss_nats
        for record in read_records(run.runtime.study_dir, damaged=[])
        if is_comparable(record) and record.val_loss_nats is not None
    }
    if not losses:
        return ""
    best = min(losses, key=lambda run_id: losses[run_id])
    if loss <= losses[best] * (1 + share):
        return ""
    return (
        f"hopeless: validation loss {loss:.4f} at step {row['step']} of {run.spec.recipe.steps}, "
        f"{loss / losses[best] - 1:.0%} above the {losses[best]:.4f} of run {best}, which cost no more FLOPs "
        f"(budget.stop_early={share:g})"
    )
