"""The plan: every run of a sweep priced before any starts, in the order in which runs are handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from scaling.data.cache import manifest
from scaling.data.prepare import DataConfig
from scaling.data.sources import TextSource
from scaling.plan.branches import check_family, furthest_step, paid_flops, trunk_id, trunk_steps
from scaling.plan.dropping import drop_order, dropped
from scaling.plan.labels import labels
from scaling.plan.limits import check_limits
from scaling.plan.plan_file import write_plan
from scaling.plan.run import Run
from scaling.plan.seconds import at_once_of, expected_speed, run_seconds, wants_gpu
from scaling.plan.stacks import stack_id
from scaling.plan.warnings import PlanWarning, warnings_of
from scaling.records.attempt import RUNNING, RunState, run_state
from scaling.records.record import DIVERGED, DONE, readable_record
from scaling.records.spending import Spent, study_spending
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.budget import REFUSE, Budget
from scaling.spec.memory import step_bytes
from scaling.spec.parallel import AUTO, shards_of
from scaling.spec.run_spec import ParametrizationSpec, RunSpec

MOST_NAMED = 4  # runs that a refusal names
BPE_BYTES_PER_TOKEN = 3.5  # assumed for English and code at some thousands of tokens of vocabulary


class OverBudgetError(ValueError):
    """A plan costs more than its cap."""


@dataclass(frozen=True)
class PlannedRun:
    """One line of plan.jsonl: a cell of the grid with its price; raw counts, seconds, bytes."""

    run_id: str
    overrides: tuple[str, ...]
    status: str  # planned, running, done, diverged, failed, preempted, lost or cancelled
    family: str  # kind of the model
    objective: str
    n_layers: int
    d_model: int
    n_heads: int
    n_params: dict[str, int]
    train_tokens: int
    tokens_per_param: float  # training tokens over non-embedding parameters
    steps: int
    batch_tokens: int
    learning_rate: float
    seed: int
    trunk: str | None  # id of the steps that the run shares with others of the plan; None for a run by itself
    trunk_steps: int  # steps that the run shares
    stack: str | None  # id that runs have in common which can be stacked; None for a run that cannot be
    law_learning_rate: float  # the recipe's rate at the run's own length; a branch is trained at its family's
    law_batch_tokens: int  # the recipe's batch at the run's own length
    parametrization: ParametrizationSpec | None  # None: standard
    unique_tokens: int  # tokens of the training split; estimated until the data are prepared
    unique_tokens_known: bool
    epochs: float
    requested_flops: float
    train_flops: int  # FLOPs of the run trained alone
    paid_flops: int  # FLOPs that the run costs here: a branch from the end of its trunk on
    devices_per_run: int
    memory_bytes: int  # of each device
    estimated_s: float
    warnings: tuple[PlanWarning, ...]
    drop_rank: int = 0  # place in the order in which runs beyond a cap are dropped (dropping.py); 0 without caps
    nodes_per_run: int = 1  # nodes that these devices are spread over
    parallel: str = AUTO  # how these devices share the weights

    @property
    def slot_s(self) -> float:
        """Seconds of all slots that the run takes: its time times its devices."""
        return self.estimated_s * self.devices_per_run


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, the longest first by the time of all slots that each takes."""

    study_dir: Path
    runs: tuple[PlannedRun, ...]
    merged: tuple[str, ...]  # cells that turned out to be the same run as another
    timed_here: bool  # whether this machine's speed was measured or is assumed
    dropped: tuple[PlannedRun, ...] = ()  # runs that the caps have no room for
    cap: str = ""  # the cap that the dropped runs would exceed, in words

    @property
    def total_flops(self) -> int:
        """FLOPs that all runs cost here, shared steps once."""
        return sum(run.paid_flops for run in self.runs)

    @property
    def alone_flops(self) -> int:
        """FLOPs that all runs would cost, each trained alone."""
        return sum(run.train_flops for run in self.runs)

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """Runs that are not finished, those that another process is training included."""
        return tuple(run for run in self.runs if run.status not in (DONE, DIVERGED))

    def worst_warnings(self) -> list[tuple[str, PlanWarning, int]]:
        """The run that each kind of warning hits hardest, the warning, and the number of runs it hits."""
        hits: dict[str, list[tuple[str, PlanWarning]]] = {}
        for run in self.runs:
            for warning in run.warnings:
                hits.setdefault(warning.kind, []).append((run.run_id, warning))
        worst = [max(found, key=lambda hit: hit[1].severity) for found in hits.values()]
        return [(run_id, warning, len(hits[warning.kind])) for run_id, warning in worst]

    def write(self) -> Path:
        """Write plan.jsonl into the study, one run a line."""
        return write_plan(self.study_dir, map(asdict, self.runs))


def make_plan(runs: Sequence[Run], total_flops: float | None, on: str | None = None) -> Plan:
    """The plan of these runs, timed on this machine, or `on` a device that devices.py names.

    Where the runs cost more than `total_flops`, or another cap of their budget, OverBudgetError states the arithmetic,
    unless budget.over=drop. Runs that the caps have no room for beside what is spent already are dropped. ValueError
    for runs beyond the limits of their budget, unless they are finished.
    """
    if not runs:
        raise ValueError("the grid has no cells; give hydra.sweeper.budgets and .shapes, or sweep over something")
    first: dict[str, Run] = {}
    merged = []
    for run in runs:
        if run.spec.run_id in first:
            twin = first[run.spec.run_id]
            merged.append(f"{' '.join(run.overrides)} is the same run as {' '.join(twin.overrides)}")
        else:
            first[run.spec.run_id] = run
    check_limits([run for run in first.values() if not (run.directory / "record.json").exists()])
    device = on or ("cuda" if wants_gpu(runs[0]) else "cpu")
    priced = shared([price(run, run_state(run.directory), device) for run in first.values()], first)
    timed_here = all(expected_speed(run, device)[1] for run in runs)
    plan = Plan(runs[0].runtime.study_dir, tuple(priced), tuple(merged), timed_here)
    return within_caps(plan, first, replace(runs[0].budget, total_flops=total_flops))


def within_caps(plan: Plan, runs: Mapping[str, Run], caps: Budget) -> Plan:
    """The plan without the runs that its caps have no room for; OverBudgetError as in `make_plan`."""
    if not caps.capped():
        return plan
    order = drop_order(plan.runs, _losses(plan))
    ranks = {run.run_id: rank for rank, run in enumerate(run for found in order for run in found)}
    plan = replace(plan, runs=tuple(replace(run, drop_rank=ranks[run.run_id]) for run in plan.runs))
    study = study_spending(plan.study_dir, runs)
    gone = study.spent + study.to_come
    to_start = {run.run_id: run for run in plan.missing if run.status != RUNNING}

    def beyond(out: Sequence[PlannedRun]) -> str:
        rest = [_rest(plan.study_dir, run) for run in without(plan.runs, out, runs) if run.run_id in to_start]
        total = sum(rest, gone)
        return caps.beyond(total.flops, total.device_s)

    planned = caps.beyond(plan.total_flops, sum(run.slot_s for run in plan.runs))
    startable = [[run for run in found if run.run_id in to_start] for found in order]
    out = dropped([found for found in startable if found], lambda out: not beyond(out))
    if planned and caps.over == REFUSE:
        sums = f"{arithmetic(plan)} = " if "FLOPs" in planned else ""
        names = f"budget.over=drop leaves out {_named(plan, out)}; or " if 0 < len(out) < len(to_start) else ""
        raise OverBudgetError(f"the plan costs {sums}{planned}; {names}drop budgets, shapes or seeds, or raise the cap")
    if out and len(out) == len(to_start) == len(plan.runs):
        raise OverBudgetError(f"no run fits: the plan costs {beyond(())}; raise the cap")
    return replace(plan, runs=tuple(without(plan.runs, out, runs)), dropped=tuple(out), cap=beyond(()))


def without(priced: Sequence[PlannedRun], out: Sequence[PlannedRun], runs: Mapping[str, Run]) -> list[PlannedRun]:
    """The priced runs but those that are `out`; where these had a trunk, another run pays its steps."""
    names = {run.run_id for run in out}
    kept = [run for run in priced if run.run_id not in names]
    if all(run.trunk is None for run in out):
        return kept
    alone = [
        replace(
            run,
            trunk=None,
            trunk_steps=0,
            paid_flops=run.train_flops,
            estimated_s=run.estimated_s * run.train_flops / max(1, run.paid_flops),
        )
        for run in kept
    ]
    return shared(alone, {run.run_id: runs[run.run_id] for run in kept})


def _rest(study_dir: Path, run: PlannedRun) -> Spent:
    """What is left of a run to spend, from its furthest checkpoint on."""
    share = 1.0 if run.trunk is not None else 1 - furthest_step(study_dir / run.run_id) / run.steps
    return Spent(run.paid_flops * share, run.slot_s * share)


def _losses(plan: Plan) -> dict[str, float]:
    """The losses of a plan's finished runs by id, nats."""
    records = [readable_record(plan.study_dir / run.run_id) for run in plan.runs if run.status == DONE]
    return {one.run_id: one.val_loss_nats for one in records if one is not None and one.val_loss_nats is not None}


def _named(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """Runs by their labels, of which some stand for many."""
    of = labels([asdict(run) for run in plan.runs])
    shown = ", ".join(of.get(run.run_id, run.run_id) for run in runs[:MOST_NAMED])
    more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
    return f"{len(runs)} that the optima need least ({shown}{more})"


def shared(priced: Sequence[PlannedRun], runs: Mapping[str, Run]) -> list[PlannedRun]:
    """The same runs, longest first, with shared trunks: the steps of a trunk are paid once."""
    families: dict[tuple[str, ...], list[RunSpec]] = {}
    for run in runs.values():
        if run.by_law is not None:  # the run has the recipe of its family
            own = tuple(part for part in run.overrides if not part.startswith("budget.flops="))
            families.setdefault(own, []).append(run.spec)
    trunks: dict[str | None, list[RunSpec]] = {}
    for specs in families.values():
        check_family(specs)
        trunks.setdefault(trunk_id(specs[0]), []).extend(specs)
    together = {run.run_id: run for run in priced}
    for trunk, specs in trunks.items():
        if len(specs) == 1:
            continue
        paid = paid_flops(specs, runs[specs[0].run_id].runtime.study_dir)
        for spec in specs:
            alone, cost = together[spec.run_id], paid[spec.run_id]
            seconds = alone.estimated_s * cost / alone.train_flops
            together[spec.run_id] = replace(
                alone, trunk=trunk, trunk_steps=trunk_steps(spec), paid_flops=cost, estimated_s=seconds
            )
    return sorted(together.values(), key=lambda run: run.slot_s, reverse=True)


def arithmetic(plan: Plan) -> str:
    """The total as a sum over budgets, e.g. `5 x 1e+11 + 5 x 1e+12`."""
    counts: dict[str, int] = {}
    for run in plan.runs:
        key = f"{run.requested_flops:.3g}"
        counts[key] = counts.get(key, 0) + 1
    sums = " + ".join(f"{count} x {flops}" for flops, count in sorted(counts.items(), key=lambda p: float(p[0])))
    saved = plan.alone_flops - plan.total_flops
    return f"{sums} less {saved:.4g} on shared trunks" if saved else sums


def price(run: Run, state: RunState, device: str) -> PlannedRun:
    """One run with its price and its warnings."""
    spec, allocation, by_law = run.spec, run.allocation, run.by_law or run.spec.recipe
    devices = run.runtime.devices_per_run
    at_once = at_once_of(run, device)
    n_params = parameter_counts(spec.model)
    known = manifest(spec.data, run.runtime.cache_dir)
    unique = known.unique_train_tokens if known else estimated_tokens(run.data)
    return PlannedRun(
        run_id=spec.run_id,
        overrides=run.overrides,
        status=state.status,
        family=spec.model.kind,
        objective=spec.objective.kind,
        n_layers=spec.model.n_layers,
        d_model=spec.model.d_model,
        n_heads=spec.model.n_heads,
        n_params=n_params,
        train_tokens=spec.train_tokens,
        tokens_per_param=spec.train_tokens / n_params["non_embedding"],
        steps=spec.recipe.steps,
        batch_tokens=spec.batch_tokens,
        learning_rate=spec.recipe.optimizer.learning_rate,
        seed=spec.seed,
        trunk=None,
        trunk_steps=0,
        stack=stack_id(spec),
        law_learning_rate=by_law.optimizer.learning_rate,
        law_batch_tokens=by_law.batch_sequences * spec.model.sequence_tokens,
        parametrization=spec.recipe.parametrization,
        unique_tokens=unique,
        unique_tokens_known=known is not None,
        epochs=spec.text_tokens / unique,
        requested_flops=allocation.requested_flops,
        train_flops=allocation.realised_flops,
        paid_flops=allocation.realised_flops,
        devices_per_run=devices,
        nodes_per_run=run.runtime.nodes_per_run,
        parallel=run.runtime.parallel,
        memory_bytes=step_bytes(
            spec,
            at_once,
            run.runtime.recompute_activations,
            run.runtime.cuda_graphs and at_once >= spec.recipe.batch_sequences,
            shards=shards_of(run.runtime.parallel, devices),
        ),
        estimated_s=run_seconds(run, device, at_once),
        warnings=warnings_of(run, state, unique, known is not None),
    )


@cache
def estimated_tokens(data: DataConfig) -> int:
    """Training tokens of data that are not prepared yet, estimated from their size."""
    if isinstance(data.source, TextSource):
        bytes_per_token = BPE_BYTES_PER_TOKEN if data.tokenizer in ("bpe", "hf") else 1.0
        return max(1, round(data.source.content_bytes() * (1 - data.val_fraction) / bytes_per_token))
    return max(1, round(data.source.content_tokens() * (1 - data.val_fraction)))
