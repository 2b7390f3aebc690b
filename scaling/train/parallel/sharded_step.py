"""A step of a sharded model: as any other, with weights, gradients and the optimizer's state sharded over the ranks."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scaling.model import build
from scaling.model.tower import compile_blocks
from scaling.objectives.batch import Batch
from scaling.plan.run import Run
from scaling.spec.parallel import shards_of
from scaling.spec.run_spec import RecipeSpec
from scaling.train.checkpoint import Checkpoint
from scaling.train.gradient_noise import estimate
from scaling.train.optimizers import set_learning_rate
from scaling.train.parallel.ranks import WHOLE, Ranks
from scaling.train.parallel.sharded_update import ShardedUpdate
from scaling.train.parallel.sharding import Root, Sharers, mesh_of, shard
from scaling.train.parallel.whole import Whole, restore
from scaling.train.setup import Setup, initial_model
from scaling.train.step import Sharing, Stepper, StepResult, backward, sums_of
from scaling.train.validation import Computed, Dealing, Validation, evaluate


class ShardedStepper(Stepper):
    """A stepper of a sharded model; the ranks begin, take every step, validate and gather the model together."""

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        micro_batch: int,
        ranks: Ranks,
        shards: int,
        new_model: Callable[[], nn.Module],
    ) -> None:
        """Shard `model` over groups of `shards` ranks; `new_model` makes one of its shape."""
        self.recipe, self.micro_batch, self.device = recipe, micro_batch, ranks.device
        self.model, self.read = model, getattr(model, "read", model)
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
        self.shards, self.notes = shards, {}
        if recipe.compile:
            compile_blocks(model)
        self._ranks, self._new_model = ranks, new_model
        with ranks.together():
            mesh = mesh_of(self.device, ranks.count, shards, ranks.timeout_s)
            self._root = shard(model, mesh, recipe.precision)
            self._sharded = ShardedUpdate(model, recipe, Sharers(mesh.get_group("shard")))
        self.optimizer = self._sharded.optimizer

    def take(
        self, batch: Batch, factor: float, *, measure_noise: bool = False, sharing: Sharing | None = None
    ) -> StepResult:
        """Update the shards by the gradient of a batch, at `factor` times the peak learning rate.

        The ranks share every micro-batch, so that each gathers weights as often as the others. Measuring gradient noise
        splits a batch into two halves, as on one device. No micro-batch is halved where a device runs out of memory,
        since the other ranks would wait.
        """
        set_learning_rate(self.optimizer, factor)
        self._sharded.zero_gradients()
        at_once = self.micro_batch * self._ranks.count
        if measure_noise and not self.recipe.compile:
            at_once = min(at_once, -(-len(batch.targets_BP) // 2))
        first, *rest = batch.split(at_once)
        with self._ranks.together():
            parts = [self._backward_own(first, batch)]
            part_norm = self._sharded.norm() if measure_noise and rest else None
            parts += [self._backward_own(part, batch) for part in rest]
        sums = sums_of(parts)
        losses = torch.stack(list(sums.values()))
        self._ranks.add_up([losses])
        with self._ranks.together():
            norm = self._sharded.step(self.recipe.optimizer.clip_norm)
        sums = dict(zip(sums, losses, strict=True))
        noise = None if part_norm is None else estimate(part_norm, norm, first.predicted, batch.predicted)
        return StepResult(sums.pop("tokens"), sums, norm, noise)

    def evaluate(self, batches: Iterable[Batch], dealing: Dealing | None = None) -> Validation:
        found = evaluate(self.model, batches, self.autocast, Rounds(self._ranks, self._root))
        root: Any = self._root
        root.reshard()  # no backward pass follows, which would
        return found

    def own_weights(self) -> Sequence[Tensor]:
        return [shard.local.detach() for shard in self._sharded.shards.values()]

    def whole(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The whole model and optimizer on the first rank's host, which orders the others to take part."""
        first = self._ranks.rank == 0
        if first:
            self._ranks.order(WHOLE)
        whole = Whole(self._new_model, self.recipe)
        with self._ranks.together():
            whole.gather(self._sharded, here=first)
        return whole.model, whole.optimizer

    def restore(self, resume_from: Checkpoint) -> None:
        restore(resume_from, self._sharded, Whole(self._new_model, self.recipe))

    def _backward_own(self, part: Batch, batch: Batch) -> dict[str, Tensor]:
        """Add the gradient of this rank's sequences of a micro-batch, and return their shares of the losses.

        A rank without sequences computes one that counts nothing.
        """
        first, stop = self._ranks.span(len(part.targets_BP))
        idle = first == stop
        own = part.part(0, 1) if idle else part.part(first, stop)
        shares = self._root(partial(self._shares, own.to(self.device), batch))
        return backward({name: 0.0 * share for name, share in shares.items()} if idle else shares)


class Rounds:
    """The dealing of validation batches among ranks that gather weights together: in rounds, one batch a rank."""

    def __init__(self, ranks: Ranks, root: Root) -> None:
        self._ranks, self._root = ranks, root

    def deals(self, number: int) -> bool:
        return self._ranks.deals(number)

    def compute(self, compute: Callable[[], Computed]) -> Computed:
        with self._ranks.together():
            found: Computed = self._root(compute)
        return found

    def idles(self, batches: int) -> bool:
        return 0 < batches % self._ranks.count <= self._ranks.rank

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        self._ranks.add_up(tensors)


def sharded_stepper_of(run: Run, setup: Setup, resume_from: Checkpoint | None, ranks: Ranks) -> ShardedStepper:
    """The stepper of the run's sharded model at its beginning, or as the checkpoint left it with its optimizer.

    Every rank makes the same initial weights as one device would, on its host, and keeps its shards alone.
    """
    spec = run.spec
    stepper = ShardedStepper(
        initial_model(run, resume_from),
        spec.recipe,
        setup.micro_batch,
        ranks,
        shards_of(setup.parallel, ranks.count),
        partial(build, spec.model, spec.seed, spec.recipe.multipliers),
    )
    stepper.notes = {"parallel": setup.parallel}
    if resume_from is not None:
        stepper.restore(resume_from)
    return stepper
