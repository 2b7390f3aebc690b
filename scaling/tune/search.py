"""The search: points of all cells train as ordinary runs and are judged; arms with a minimum at an edge are widened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console

from scaling.config.config import compose, recipe_values, task_overrides
from scaling.config.grid import cell_runs, load_like
from scaling.config.sections import Rows
from scaling.launch.sweep import expand, launch_plan, prepare_data
from scaling.launch.task import hydra_launcher
from scaling.plan.plan import OverBudgetError, Plan, make_plan
from scaling.plan.run import Run
from scaling.plan.tables import print_plan
from scaling.plan.work import write_work
from scaling.records.record import read_record
from scaling.tune.cells import SHARE_OF_SWEEP, Cell, choose_cells

Json = dict[str, Any]
Judge = Callable[[str, Sequence[Mapping[str, Any]], Mapping[str, Mapping[str, Any]]], Json]

RATE, BATCH = "learning_rate", "batch_tokens"  # arms of the search, each named after the recipe's law that it tunes
FACTOR = 2.0  # ratio of neighbouring points of an arm
REACH = {RATE: 2, BATCH: 1}  # points on either side of the middle
WIDER = {RATE: 2, BATCH: 1}  # points that one widening adds beyond an edge
WIDENINGS = 2  # most widenings of an arm
IN_WORDS = {RATE: "learning rate", BATCH: "batch"}
RUNS_PER_CELL = 1 + sum(2 * reach for reach in REACH.values())
BATCH_ROOT = 0.5  # Adam's learning rate follows the batch's square root (Malladi et al. 2022)
# Settings outside a run's identity: only the last validation counts, and a search needs no weights.
LEAN = ("runtime.eval_fractions=[]", "runtime.keep_weights=false")


@dataclass(frozen=True)
class Point:
    """A point of a cell's arm: one run with a learning rate and a batch."""

    arm: str
    step: int  # factors of FACTOR between the arm's middle and the point
    learning_rate: float
    batch_tokens: int


@dataclass
class Searched:
    """A cell under search, with its points so far."""

    cell: Cell
    run: Run  # the cell's run with the sweep's own recipe
    points: list[Point] = field(default_factory=list)

    def base(self, arm: str) -> float:
        """The recipe's learning rate or batch at this cell; a batch is in tokens of whole sequences."""
        spec = self.run.spec
        return float(spec.recipe.optimizer.learning_rate if arm == RATE else spec.batch_tokens)

    def add(self, arm: str, steps: Sequence[int], middle: float) -> bool:
        """Add points of an arm, at learning rates around `middle`; False where no point can run."""
        before, least = len(self.points), max(2, self.run.budget.least_steps)
        for step in steps:
            batch = self.base(BATCH) * (FACTOR**step if arm == BATCH else 1.0)
            rate = middle * FACTOR ** (step if arm == RATE else BATCH_ROOT * step)
            if batch >= self.run.spec.model.sequence_tokens and batch * least <= self.run.spec.train_tokens:
                self.points.append(Point(arm, step, float(f"{rate:.4g}"), round(batch)))
        return len(self.points) > before

    def steps(self, arm: str) -> list[int]:
        return [point.step for point in self.points if point.arm == arm]

    def overrides(self, point: Point) -> tuple[str, ...]:
        constants = (f"recipe.{BATCH}={point.batch_tokens}", f"recipe.{RATE}={point.learning_rate:g}")
        return (*self.cell.overrides, *constants)


class Search:
    """A search of a sweep's learning rate and batch; `run` takes it to its end or to its cap."""

    def __init__(self, fixed: Sequence[str], axes: Mapping[str, Sequence[str]], judge: Judge, console: Console) -> None:
        self._judge, self._console = judge, console
        sweep = compose(fixed)
        self.study = f"{sweep.study}-tune"
        self.sweep_study = str(sweep.study)
        self.fixed = [*fixed, f"study={self.study}", *LEAN]
        self.cfg = compose(self.fixed)
        self._rows = Rows(self.cfg, lambda row: load_like(self.cfg, [*self.fixed, *row]))
        self._runs = expand(sweep, fixed, axes, load_like)
        self.sweep_flops = make_plan(self._runs, sweep.budget.total_flops).total_flops
        self.cells: list[Searched] = []
        self.cap = 0.0
        self._document: Json = {}
        self._known: dict[tuple[str, ...], Run] = {}

    def run(self, cap: float | None, budgets: Sequence[float]) -> Json:
        """Search within `cap` FLOPs (default: SHARE_OF_SWEEP of the sweep's); return the judge's last document.

        Raises OverBudgetError before anything starts when the first points cost more than the cap, and SystemExit(1)
        when a run failed or was stopped: the same command again goes on from there.
        """
        self.cap = SHARE_OF_SWEEP * self.sweep_flops if cap is None else cap
        chosen = choose_cells(self._runs, self.cap, budgets, RUNS_PER_CELL)
        self.cells = [
            Searched(cell, run)
            for cell, run in zip(chosen, self._resolve([cell.overrides for cell in chosen]), strict=True)
        ]
        self._refuse_over_cap()
        for cell in self.cells:
            cell.add(RATE, range(-REACH[RATE], REACH[RATE] + 1), cell.base(RATE))
        self._go_on(RATE)
        for i, cell in enumerate(self.cells):
            cell.add(BATCH, range(-REACH[BATCH], REACH[BATCH] + 1), self._middle(i))
        self._go_on(BATCH)
        return self._document

    @property
    def directory(self) -> Any:
        """The study's folder."""
        return self.cells[0].run.directory.parent

    def recipe(self) -> dict[str, Json]:
        """The two laws that the search started from."""
        values = recipe_values(self.cfg)
        return {arm: values[arm] for arm in (RATE, BATCH)}

    def _price(self, runs: int) -> int:
        """FLOPs of `runs` runs of every cell."""
        return runs * sum(cell.run.allocation.realised_flops for cell in self.cells)

    def _refuse_over_cap(self) -> None:
        """Raise OverBudgetError where the first points of both arms cost more than the cap."""
        cost = self._price(RUNS_PER_CELL)
        if cost > self.cap:
            parts = " + ".join(f"{RUNS_PER_CELL} x {cell.cell.budget_flops:.3g}" for cell in self.cells)
            raise OverBudgetError(
                f"the search costs {parts} = {cost:.4g} FLOPs before any widening, more than --flops {self.cap:.4g} "
                f"({self.cap / self.sweep_flops:.0%} of the sweep's {self.sweep_flops:.4g}); lower --budgets or raise "
                f"--flops"
            )
        summary = (
            f"{len(self.cells)} cells x {RUNS_PER_CELL} runs = {cost:.4g} FLOPs, then wider where a minimum lies at an "
            f"edge, up to {self.cap:.4g} ({self.cap / self.sweep_flops:.0%} of the sweep's {self.sweep_flops:.4g})"
        )
        self._console.print(summary, soft_wrap=True)

    def _go_on(self, arm: str) -> None:
        """Train an arm's points, and widen the arm where its minimum lies at an edge."""
        self._train()
        for _ in range(WIDENINGS):
            before = [list(cell.points) for cell in self.cells]
            news = [text for i in range(len(self.cells)) if (text := self._widen(i, arm))]
            if not news:
                return
            plan = self._plan(self._resolve([cell.overrides(point) for cell in self.cells for point in cell.points]))
            to_come = self._price(2 * REACH[BATCH]) if arm == RATE else 0  # the batch arm follows
            total = plan.total_flops + to_come
            if fits := total <= self.cap:
                news.append("going on beyond it")
            else:
                news.append(f"going on would cost {total:.4g} FLOPs in all, over the cap of {self.cap:.4g}")
            self._console.print("; ".join(news), soft_wrap=True)
            if not fits:
                for cell, points in zip(self.cells, before, strict=True):
                    cell.points = points
                return
            self._train()

    def _widen(self, i: int, arm: str) -> str:
        """Add points beyond the edge where the arm's minimum lies; return this in words, "" where none are added."""
        cell, minimum = self.cells[i], self._document["cells"][i][arm]
        steps, edge = cell.steps(arm), minimum["edge"]
        if not edge or not steps:
            return ""
        end = min if edge == "low" else max
        tried = end(point[arm] for point in self._document["cells"][i]["points"] if point["arm"] == arm)
        first = min(steps) - WIDER[arm] if edge == "low" else max(steps) + 1
        middle = cell.base(RATE) if arm == RATE else self._middle(i)
        if not cell.add(arm, range(first, first + WIDER[arm]), middle):
            return ""
        where = f"{cell.cell.shape} at {cell.cell.budget_flops:.3g} FLOPs"
        return f"{where}: the best {IN_WORDS[arm]} lies at the {edge} end of what was tried ({tried:.3g})"

    def _middle(self, i: int) -> float:
        """The learning rate tried at the recipe's batch that is nearest the minimum, else the best rate tried."""
        points = [p for p in self._document["cells"][i]["points"] if p["arm"] == RATE and p["loss"] is not None]
        if not points:
            return self.cells[i].base(RATE)
        minimum = self._document["cells"][i][RATE]["value"]
        best = min(points, key=lambda p: float(p["loss"]))
        near = min(points, key=lambda p: max(p[RATE] / minimum, minimum / p[RATE])) if minimum else best
        return float(near[RATE])

    def _resolve(self, rows: Sequence[tuple[str, ...]]) -> list[Run]:
        """Runs of these overrides; every run is composed only once."""
        new = [row for row in dict.fromkeys(rows) if row not in self._known]
        runs = cell_runs(self._rows, new)
        self._known |= dict(zip(new, runs, strict=True))
        return [self._known[row] for row in rows]

    def _plan(self, runs: Sequence[Run]) -> Plan:
        """A plan of the distinct runs: the middle of a cell's two arms is the same run."""
        return make_plan(list({run.spec.run_id: run for run in runs}.values()), None)

    def _train(self) -> None:
        """Train the missing runs of all points, and judge the cells."""
        rows = [(cell, point) for cell in self.cells for point in cell.points]
        runs = self._resolve([cell.overrides(point) for cell, point in rows])
        plan = self._plan(runs)
        if plan.missing:
            print_plan(replace(plan, runs=plan.missing), self._console, None)
            prepare_data(runs)
        write_work(plan.study_dir, runs, self.cfg.retries)
        launch_plan(plan, task_overrides(self.cfg), hydra_launcher(self.cfg), self._console)
        self._document = self._judge(self.sweep_study, self._observed(rows, runs), self.recipe())

    def _observed(self, rows: Sequence[tuple[Searched, Point]], runs: Sequence[Run]) -> list[Json]:
        """The cells in the judge's format, each point with its run's loss."""
        observed: dict[int, Json] = {}
        for (cell, point), run in zip(rows, runs, strict=True):
            scale = cell.run.allocation.scale
            own = observed.setdefault(
                id(cell),
                {
                    "shape": cell.cell.shape,
                    "budget_flops": cell.cell.budget_flops,
                    **asdict(scale),
                    "base": {arm: cell.base(arm) for arm in (RATE, BATCH)},
                    "points": [],
                },
            )
            record = read_record(run.directory)
            assert record is not None  # launch_plan raises unless every run of its plan has a record
            done = {"run_id": run.spec.run_id, "status": record.status, "loss": record.val_loss_nats}
            own["points"].append({"arm": point.arm, RATE: point.learning_rate, BATCH: run.spec.batch_tokens, **done})
        return list(observed.values())
