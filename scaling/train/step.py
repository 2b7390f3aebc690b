"""A training step: forward and backward of each micro-batch, clipping, and the update."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scaling.model.tower import compile_blocks
from scaling.objectives.batch import Batch
from scaling.objectives.losses import auxiliary_losses, logits_of, mean_loss
from scaling.spec.run_spec import RecipeSpec
from scaling.train.cuda_graph import Graph, GraphedStep
from scaling.train.flat_parameters import FlatParameters, clip_, clip_divisor, norms
from scaling.train.gradient_noise import GradientNoise, estimate
from scaling.train.optimizers import build_optimizer, keep_rates_on, set_learning_rate
from scaling.train.validation import Dealing, Validation, evaluate

# Devices on which AdamW's kernel clips the gradients that it reads, instead of a pass of its own over all of them.
CLIP_IN_UPDATE = ("cuda",)


@dataclass(frozen=True)
class StepResult:
    """Losses, gradient norm and gradient noise of a step, on the model's device: reading them waits for the device."""

    loss: Tensor  # mean over the batch's predicted tokens, nats
    auxiliary: dict[str, Tensor]  # mean auxiliary losses by name, nats per sequence
    grad_norm: Tensor  # before clipping
    noise: GradientNoise | None  # None where not requested or not measurable

    def clone(self) -> "StepResult":
        """A copy of the result in memory of its own."""
        auxiliary = {name: loss.clone() for name, loss in self.auxiliary.items()}
        noise = None if self.noise is None else self.noise.clone()
        return StepResult(self.loss.clone(), auxiliary, self.grad_norm.clone(), noise)


def seed_dropout(*key: int) -> None:
    """Seed the dropout of a step by its key alone, (seed, step), as its batch is; ranks above 0 add their number."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


class Sharing(Protocol):
    """The sharing of a step among processes that hold the same weights (`parallel/ranks.py`)."""

    def share(self, batch: Batch) -> Batch:
        """This process's sequences of a batch."""
        ...

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        ...


class Pace(Protocol):
    """The pace of a run: the taking of its steps, its validation, and the time that it spends on its slot."""

    async def take(
        self, stepper: "Stepper", batch: Batch, factor: float, *, measure_noise: bool, due: bool
    ) -> StepResult:
        """Take a step (see `Stepper.take`); `due`: whether the run will read the result at once."""
        ...

    def evaluate(self, stepper: "Stepper", batches: Iterable[Batch]) -> Validation:
        """Validate the stepper's model on batches (see `validation.evaluate`)."""
        ...

    def seconds(self) -> float:
        """Seconds that the run has spent on its slot so far."""
        ...


class Alone:
    """The pace of a run that trains by itself: every step is taken at once, and all time is its own."""

    async def take(
        self, stepper: "Stepper", batch: Batch, factor: float, *, measure_noise: bool, due: bool
    ) -> StepResult:
        return stepper.take(batch, factor, measure_noise=measure_noise)

    def evaluate(self, stepper: "Stepper", batches: Iterable[Batch]) -> Validation:
        return stepper.evaluate(batches)

    def seconds(self) -> float:
        return time.perf_counter()


class Stepper:
    """A stepper takes the steps of a recipe on a model, in micro-batches of at most `micro_batch` sequences.

    With `new_graph`, steps are recorded and replayed; a step that measures gradient noise has a recording of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        micro_batch: int,
        device: torch.device,
        new_graph: Callable[[], Graph] | None = None,
    ) -> None:
        self.recipe, self.micro_batch, self.device = recipe, micro_batch, device
        self.model, self.optimizer = model, build_optimizer(model, recipe)
        self.flat = FlatParameters(self.optimizer)
        if recipe.compile:
            compile_blocks(model)
        self.clips_in_update = device.type in CLIP_IN_UPDATE and isinstance(self.optimizer, torch.optim.AdamW)
        self.read = getattr(model, "read", model)  # a classifier has no `read`: its few logits are computed directly
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
        self.new_graph = new_graph
        self.shards = 1  # processes that share a copy of the weights
        self.notes: dict[str, Any] = {}  # facts about the steps for the record: micro-batches that were halved
        self._updating = False  # whether weights change right now, so that no step is taken again
        self.graphed: GraphedStep[StepResult] | None = None
        self.measuring: GraphedStep[StepResult] | None = None
        if new_graph is not None:
            self.graphed = GraphedStep(self._take, new_graph, device)
            # A step that measures is rare: the optimizer has its state by then, and halves need one step to warm up.
            self.measuring = GraphedStep(partial(self._take, measure_noise=True), new_graph, device, warm_steps=1)

    def take(
        self, batch: Batch, factor: float, *, measure_noise: bool = False, sharing: Sharing | None = None
    ) -> StepResult:
        """Update the model by the gradient of a batch, at `factor` times the peak learning rate.

        Where the device runs out of memory, micro-batches are halved, and the step is taken again.

        Measuring gradient noise splits a batch that would be taken whole into two halves. A compiled model takes the
        batch whole, since halves would be compiled anew; a batch of one sequence has no halves. With `sharing`, this
        process computes the gradient of its share of the batch, whose norm measures gradient noise as well.
        """
        set_learning_rate(self.optimizer, factor)
        while True:
            try:
                if sharing is not None:
                    return self._take_share(batch, sharing, measure_noise)
                recorded = self._recorded(batch, measure_noise)
                if recorded is None:
                    return self._take(batch, measure_noise)
                keep_rates_on(self.optimizer, self.device)  # in every step, because restoring a checkpoint undoes it
                return recorded(batch)
            except torch.OutOfMemoryError:
                if self._updating or min(self.micro_batch, len(batch.targets_BP)) == 1:
                    raise
            self._halve(len(batch.targets_BP))  # outside the handler, whose traceback holds the step's tensors

    def _halve(self, batch_sequences: int) -> None:
        """Take smaller micro-batches from here on: the same batch, accumulated from twice as many."""
        before = min(self.micro_batch, batch_sequences)
        self.micro_batch = -(-before // 2)
        while self.recipe.compile and batch_sequences % self.micro_batch:  # of one shape, or all are compiled anew
            self.micro_batch -= 1
        self.graphed = self.measuring = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        words = f"micro-batches of {self.micro_batch} sequences instead of {before}, after the device ran out of memory"
        self.notes = {"micro_batch_sequences": self.micro_batch, "out_of_memory": words}
        print(f"out of memory: {words}; the batch stays {batch_sequences}", flush=True)

    def move_to(self, weights_N: Sequence[Tensor], gradients_N: Sequence[Tensor]) -> None:
        """Move weights and gradients to other memory, which no recording of the step reads."""
        self.flat.move_to(weights_N, gradients_N)
        for recorded in (self.graphed, self.measuring):
            if recorded is not None:
                recorded.drop()

    def takes_whole(self, batch: Batch, measure_noise: bool) -> bool:
        """Whether a step takes its batch whole: micro-batches and the measuring of gradient noise split a batch."""
        return self._micro_batch_of(batch, measure_noise) >= len(batch.targets_BP)

    def _recorded(self, batch: Batch, measure_noise: bool) -> GraphedStep[StepResult] | None:
        """The recorded step that takes a batch; None where the step is taken directly.

        Halves of a batch whose targets do not all count are directly taken: the host weighs them by what they predict.
        """
        if self.takes_whole(batch, measure_noise):
            return self.graphed
        return self.measuring if batch.weights_BP is None and self.micro_batch >= len(batch.targets_BP) else None

    def _micro_batch_of(self, batch: Batch, measure_noise: bool) -> int:
        """The largest micro-batch of a batch, in sequences."""
        halved = measure_noise and not self.recipe.compile
        return min(self.micro_batch, -(-len(batch.targets_BP) // 2)) if halved else self.micro_batch

    def _take(self, batch: Batch, measure_noise: bool = False) -> StepResult:
        gradients_1N = self._zeroed()
        first, *rest = batch.split(self._micro_batch_of(batch, measure_noise))
        parts = [self._backward(first.to(self.device), batch)]
        part_norm = norms(gradients_1N)[0] if measure_noise and rest else None
        parts += [self._backward(part.to(self.device), batch) for part in rest]
        return self._update(gradients_1N, sums_of(parts), part_norm, first.predicted, batch.predicted)

    def _take_share(self, batch: Batch, sharing: Sharing, measure_noise: bool) -> StepResult:
        """The step of a process that computes a share: shares of losses and gradients are of the whole batch's mean.

        Their sums are thus the batch's own, however many tokens each share predicts.
        """
        gradients_1N = self._zeroed()
        own = sharing.share(batch)
        sums = sums_of([self._backward(part.to(self.device), batch) for part in own.split(self.micro_batch)])
        part_norm = norms(gradients_1N)[0] if measure_noise else None
        losses = torch.stack(list(sums.values()))
        self._updating = True  # the other processes count on this one from here on
        sharing.add_up([*gradients_1N, losses])
        sums = dict(zip(sums, losses, strict=True))
        return self._update(gradients_1N, sums, part_norm, own.predicted, batch.predicted)

    def _zeroed(self) -> list[Tensor]:
        """The flat gradients, (1, N) each, set to zero."""
        for gradient in self.flat.gradients_N:
            gradient.zero_()
        return [gradient.unsqueeze(0) for gradient in self.flat.gradients_N]

    def _update(
        self, gradients_1N: list[Tensor], sums: dict[str, Tensor], part_norm: Tensor | None, part: int, tokens: int
    ) -> StepResult:
        """Clip, update, and return the step's result; `part` of the `tokens` have a gradient of norm `part_norm`."""
        limit = self.recipe.optimizer.clip_norm
        if limit and self.clips_in_update:
            norm = norms(gradients_1N)[0]
            self.optimizer.grad_scale = clip_divisor(norm, limit)  # type: ignore[attr-defined]
        else:
            norm = clip_(gradients_1N, limit)[0]
        self._updating = True
        self.optimizer.step()
        self._updating = False
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]  # a stack clips by itself
        noise = None if part_norm is None else estimate(part_norm, norm, part, tokens)
        return StepResult(sums.pop("tokens"), sums, norm, noise)

    def evaluate(self, batches: Iterable[Batch], dealing: Dealing | None = None) -> Validation:
        """Validate the model (see `validation.evaluate`)."""
        return evaluate(self.model, batches, self.autocast, dealing)

    def whole(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The model and the optimizer with all their numbers, as checkpoints keep them."""
        return self.model, self.optimizer

    def own_weights(self) -> Sequence[Tensor]:
        """The weights that this process holds, as vectors."""
        return self.flat.weights_N

    def _backward(self, part: Batch, batch: Batch) -> dict[str, Tensor]:
        """Add a micro-batch's gradient; return its share of each mean loss by name."""
        return backward(self._shares(part, batch))

    def _shares(self, part: Batch, batch: Batch) -> dict[str, Tensor]:
        """A micro-batch's share of each mean loss by name, the loss of "tokens" first."""
        with self.autocast:
            output = self.read(*part.inputs)
        tokens = mean_loss(logits_of(output), part.targets_BP, part.weights_BP)
        shares = {"tokens": tokens * (part.predicted / max(1, batch.predicted))}
        sequences = len(part.targets_BP) / len(batch.targets_BP)
        return shares | {name: loss * sequences for name, loss in auxiliary_losses(output, part).items()}


def backward(shares: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the gradient of the summed shares; return the shares' numbers."""
    reduce(torch.add, shares.values()).backward()  # type: ignore[no-untyped-call]
    return {name: share.detach() for name, share in shares.items()}


def sums_of(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Sums of the micro-batches' shares by name."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}
