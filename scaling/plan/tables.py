"""The table of a plan on a terminal."""

from rich.console import Console
from rich.text import Text

from scaling.plan.columns import print_columns
from scaling.plan.plan import Plan, PlannedRun, arithmetic
from scaling.quantities import duration, short, with_unit
from scaling.terminal import flagged

# Prefixes of overrides whose effect a column of the plan's table shows.
SHOWN = (
    "budget.",
    "objective",
    "model.n_layers",
    "model.d_model",
    "model.n_heads",
    "recipe.reference_flops",
    "recipe.learning_rate",
    "recipe.batch_tokens",
)


def print_plan(plan: Plan, console: Console, question: str | None) -> None:
    """Print the priced grid, its totals and its warnings."""
    if question:
        console.print(Text(question.strip(), style="bold"))
    branched = any(run.trunk is not None for run in plan.runs)
    mixed = len({(run.family, run.objective) for run in plan.runs}) > 1
    axes = {key: name for key, name in _axes(plan).items() if not (mixed and key == "model")}  # "asked" shows the model
    words = ("run", "status", *(("asked",) if mixed else ()), *axes.values())
    numbers = (
        "shape",
        "N",
        "tokens",
        "D/N",
        "steps",
        "batch",
        "lr",
        *(("lr by law", "batch by law") if branched else ()),
        "epochs",
        "C (exact)",
        *(("C paid",) if branched else ()),
        "memory",
        "time",
    )
    rows = []
    for run in plan.runs:
        row = (
            run.run_id,
            run.status,
            *((f"{run.family} {run.objective}",) if mixed else ()),
            *(_override(run, key) for key in axes),
            f"{run.n_layers}x{run.d_model}/{run.n_heads}",
            short(run.n_params["non_embedding"]),
            short(run.train_tokens),
            f"{run.tokens_per_param:.3g}",
            f"{run.steps:,}",
            f"{run.batch_tokens:,}",
            f"{run.learning_rate:.2g}",
            *((f"{run.law_learning_rate:.2g}", f"{run.law_batch_tokens:,}") if branched else ()),
            ("" if run.unique_tokens_known else "~") + f"{run.epochs:.3g}",
            f"{run.train_flops:.3g}",
            *((f"{run.paid_flops:.3g}",) if branched else ()),
            with_unit(run.memory_bytes, "B"),
            duration(run.estimated_s),
        )
        rows.append(row)
    print_columns(dict.fromkeys(words, False) | dict.fromkeys(numbers, True), rows, console, words)
    console.print(
        "shape: layers x width / heads; N: non-embedding parameters; C: exact training FLOPs",
        style="dim",
        soft_wrap=True,
    )
    seconds = sum(run.estimated_s for run in plan.missing)
    console.print(
        f"{len(plan.runs)} runs, {len(plan.missing)} to train; {plan.total_flops:.4g} FLOPs in all "
        f"({arithmetic(plan)}); about {duration(seconds)} of one slot's time"
        + ("" if plan.timed_here else " (assumed speed; `scaling bench` measures this machine's)"),
        soft_wrap=True,
    )
    if branched:
        console.print(sharing(plan), soft_wrap=True)
    for text in plan.merged:
        console.print(flagged("merged", text), soft_wrap=True)
    for run_id, warning, hits in plan.worst_warnings():
        others = f" ({hits} of {len(plan.runs)} runs do so; this one most)" if hits > 1 else ""
        console.print(flagged("warning", f"{run_id} {warning.text}{others}"), soft_wrap=True)


def _axes(plan: Plan) -> dict[str, str]:
    """Settings in which the plan's cells differ and that no other column shows, each with the name of its column."""
    keys = dict.fromkeys(part.partition("=")[0] for run in plan.runs for part in run.overrides)
    apart = [key for key in keys if not key.startswith(SHOWN) and len({_override(run, key) for run in plan.runs}) > 1]
    return {key: key.removeprefix("recipe.").removeprefix("model.") for key in apart}


def _override(run: PlannedRun, key: str) -> str:
    """The value that a cell gives to a setting; empty where the cell gives none."""
    return next((value for name, _, value in (part.partition("=") for part in run.overrides) if name == key), "")


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
