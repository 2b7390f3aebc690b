"""The table of a plan on a terminal, as wide as the terminal, and the plan as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from scaling.plan.columns import Column, print_columns, print_prose
from scaling.plan.cost import Cost
from scaling.plan.labels import axes, labels, named, setting
from scaling.plan.plan import Plan, PlannedRun, arithmetic
from scaling.plan.timeline import Timeline, in_lines
from scaling.plan.timeline import as_json as timeline_as_json
from scaling.quantities import duration, short, with_unit
from scaling.spec.parallel import FSDP, HSDP
from scaling.terminal import flagged

MOST_GROUPS = 0.5  # budgets over runs: with more, as where tokens are the budget, groups would hold single runs


def print_plan(
    plan: Plan, console: Console, question: str | None, cost: Sequence[str] = (), when: Timeline | None = None
) -> None:
    """Print the priced grid, its totals, its timeline and its warnings; `cost` are lines about machines elsewhere."""
    if question:
        print_prose(console, Text(question.strip(), style="bold"))
    groups = budget_groups(plan)
    runs = [run for _, members in groups for run in members] or list(plan.runs)
    titles = [(title(flops, members), len(members)) for flops, members in groups]
    print_columns(columns_of(runs, grouped=bool(groups)), console, titles)
    legend = "shape: layers x width / heads; N: non-embedding parameters; C: exact training FLOPs"
    order = ". The longest run starts first" if groups else ""
    print_prose(console, Text(legend + order, "dim"))
    seconds = sum(run.slot_s for run in plan.missing)
    assumed = "" if plan.timed_here or cost else " (assumed speed; `scaling bench` measures this machine's)"
    print_prose(
        console,
        f"{len(plan.runs)} runs, {len(plan.missing)} to train; {plan.total_flops:.4g} FLOPs in all "
        f"({arithmetic(plan)}); about {duration(seconds)} of one slot's time{assumed}",
    )
    if any(run.devices_per_run > 1 for run in plan.runs):
        print_prose(console, "devices exchange gradients at an assumed speed; a run takes a slot a device")
    for line in cost:
        print_prose(console, line)
    if any(run.trunk is not None for run in plan.runs):
        print_prose(console, sharing(plan))
    for line in [] if when is None else in_lines(when):
        console.print(Text(line), soft_wrap=True)
    if plan.dropped:
        count = "1 run" if len(plan.dropped) == 1 else f"{len(plan.dropped)} runs"
        print_prose(console, flagged("dropped", f"{count} that the optima need least: all would cost {plan.cap}"))
    for name in names_of(plan.dropped):
        console.print(Text(f"  {name}"), soft_wrap=True)
    for text in plan.merged:
        print_prose(console, flagged("merged", text))
    for run_id, warning, hits in plan.worst_warnings():
        others = f" ({hits} of {len(plan.runs)} runs do so; this one most)" if hits > 1 else ""
        print_prose(console, flagged("warning", f"{run_id} {warning.text}{others}"))


def names_of(runs: Sequence[PlannedRun]) -> list[str]:
    """The ids of runs, with their labels."""
    found = labels([asdict(run) for run in runs])
    return [f"{run.run_id}  {found.get(run.run_id, '')}".rstrip() for run in runs]


def budget_groups(plan: Plan) -> list[tuple[float, list[PlannedRun]]]:
    """Runs of each budget, small models first, from the smallest budget on; empty where budgets group nothing."""
    budgets = sorted({run.requested_flops for run in plan.runs})
    if not 1 < len(budgets) <= MOST_GROUPS * len(plan.runs):
        return []
    members: dict[float, list[PlannedRun]] = {flops: [] for flops in budgets}
    for run in sorted(plan.runs, key=lambda run: (run.n_params["non_embedding"], run.overrides)):
        members[run.requested_flops].append(run)
    return list(members.items())


def title(flops: float, runs: list[PlannedRun]) -> str:
    """The heading of a budget's runs."""
    seconds = sum(run.slot_s for run in runs)
    return f"C = {flops:.3g} FLOPs: {len(runs)} runs, {duration(seconds)} of one slot's time"


def columns_of(runs: list[PlannedRun], *, grouped: bool) -> list[Column]:
    """Columns of a plan's table; where headings state the budgets, the exact compute goes early."""
    mixed = len({(run.family, run.objective) for run in runs}) > 1
    keys = [key for key in axes(run.overrides for run in runs) if not (mixed and key == "model")]  # "asked" shows it
    wide = any(run.devices_per_run > 1 for run in runs)
    alike = len({run.status for run in runs}) == 1
    return [
        Column("run", [run.run_id for run in runs], False, 4),
        Column("status", [run.status for run in runs], False, 8 if alike else 5),
        Column("asked", [f"{run.family} {run.objective}" if mixed else "" for run in runs], False),
        *(Column(named(key), [setting(run.overrides, key) for run in runs], False) for key in keys),
        Column("shape", [f"{run.n_layers}x{run.d_model}/{run.n_heads}" for run in runs]),
        Column("N", [short(run.n_params["non_embedding"]) for run in runs]),
        Column("tokens", [short(run.train_tokens) for run in runs], rank=1),
        Column("D/N", [short(run.tokens_per_param) for run in runs], rank=3),
        Column("steps", [f"{run.steps:,}" for run in runs], rank=5),
        Column("batch", [f"{run.batch_tokens:,}" for run in runs], rank=6),
        Column("lr", [f"{run.learning_rate:.2g}" for run in runs], rank=6),
        Column("lr by law", [f"{run.law_learning_rate:.2g}" if run.trunk else "" for run in runs], rank=9),
        Column("batch by law", [f"{run.law_batch_tokens:,}" if run.trunk else "" for run in runs], rank=9),
        Column("epochs", [("" if run.unique_tokens_known else "~") + f"{run.epochs:.3g}" for run in runs], rank=9),
        Column("C (exact)", [f"{run.train_flops:.3g}" for run in runs], rank=8 if grouped else 2),
        Column("C paid", [f"{run.paid_flops:.3g}" if run.trunk else "" for run in runs], rank=7),
        Column("devices", [_devices(run) if wide else "" for run in runs], rank=4),
        Column("memory", [with_unit(run.memory_bytes, "B") for run in runs], rank=10),
        Column("time", [duration(run.estimated_s) for run in runs], rank=2),
    ]


def _devices(run: PlannedRun) -> str:
    """The devices of a run, with its kind of parallelism and its nodes where these are not the plain ones."""
    nodes = f" on {run.nodes_per_run} nodes" if run.nodes_per_run > 1 else ""
    return f"{run.devices_per_run}{f' {run.parallel}' if run.parallel in (FSDP, HSDP) else ''}{nodes}"


def sharing(plan: Plan) -> str:
    """The FLOPs that branches save, and the recipe that they are trained at, in two sentences."""
    branches = [run for run in plan.runs if run.trunk is not None]
    trunks = len({run.trunk for run in branches})
    return (
        f"one trunk, many points: {len(branches)} runs on {trunks} trunks; {plan.alone_flops:.4g} FLOPs each alone, "
        f"{plan.total_flops:.4g} with branches: x{plan.alone_flops / plan.total_flops:.3g} fewer. Runs of one trunk "
        f"have one batch, warm-up and learning rate, the recipe's at the geometric mean of their budgets; what it "
        f"gives at their own stands beside, 'by law'"
    )


def as_json(
    plan: Plan, question: str | None, cost: Cost | None = None, when: Timeline | None = None
) -> Mapping[str, Any]:
    """The plan as one document: totals, the cost on another machine if asked, the timeline, runs as in plan.jsonl."""
    return {
        "question": question,
        "study_dir": str(plan.study_dir),
        "total_flops": plan.total_flops,
        "alone_flops": plan.alone_flops,
        "to_train": len(plan.missing),
        "estimated_s": sum(run.slot_s for run in plan.missing),
        "timed_here": plan.timed_here,
        "cost": None if cost is None else asdict(cost),
        "timeline": None if when is None else timeline_as_json(when),
        "cap": plan.cap,
        "dropped": [asdict(run) for run in plan.dropped],
        "merged": plan.merged,
        "runs": [asdict(run) for run in plan.runs],
    }
