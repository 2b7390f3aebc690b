"""One training step: forward, backward, clipping and update, on the parts that a batch is split into."""

import torch
from torch import Tensor, nn

from scaling.model.tower import compile_blocks
from scaling.objectives.batch import Batch
from scaling.objectives.losses import logits_of, mean_loss, next_sentence_loss
from scaling.spec.run_spec import RecipeSpec
from scaling.train.cuda_graph import Graph, GraphedStep
from scaling.train.flat_parameters import FlatParameters, clip_, norms
from scaling.train.gradient_noise import estimate
from scaling.train.optimizers import build_optimizer, keep_rates_on, set_learning_rate
from scaling.train.step_result import StepResult


class Stepper:
    """Takes the steps of a recipe on a model, at most `micro_batch` sequences at once.

    With a `graph` they are recorded, except those that measure their noise.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        micro_batch: int,
        device: torch.device,
        graph: Graph | None = None,
    ) -> None:
        self.recipe, self.micro_batch, self.device = recipe, micro_batch, device
        self.model, self.optimizer = model, build_optimizer(model, recipe)
        self.rows = FlatParameters(self.optimizer)
        if recipe.compile:
            compile_blocks(model)
        self.read = getattr(model, "read", model)  # a task's head gives logits; there are few of them
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16")
        self.recorded = None if graph is None else GraphedStep(self._take, graph, device)

    def take(self, batch: Batch, factor: float, *, measure_noise: bool = False) -> StepResult:
        """Update the model by the gradient of a batch, at this share of the peak learning rate.

        To measure its noise a batch that would be taken whole is taken in two halves, but not by a compiled model,
        which would have to be compiled for them; a batch of one sequence has no halves.
        """
        set_learning_rate(self.optimizer, factor)
        if self.recorded is None or measure_noise:
            return self._take(batch, measure_noise)
        keep_rates_on(self.optimizer, self.device)  # here, since a checkpoint may have brought them back
        return self.recorded(batch)

    def at_once(self, batch: Batch, measure_noise: bool) -> int:
        """Sequences of a batch that are taken at once."""
        halved = measure_noise and not self.recipe.compile
        return min(self.micro_batch, -(-len(batch.targets_BP) // 2)) if halved else self.micro_batch

    def _take(self, batch: Batch, measure_noise: bool = False) -> StepResult:
        gradients_1N = [gradient.unsqueeze(0) for gradient in self.rows.gradients_N]
        for gradient in gradients_1N:
            gradient.zero_()
        first, *rest = batch.split(self.at_once(batch, measure_noise))
        parts = [self._backward(first.to(self.device), batch)]
        part_norm = norms(gradients_1N)[0] if measure_noise and rest else None
        parts += [self._backward(part.to(self.device), batch) for part in rest]
        norm = clip_(gradients_1N, self.recipe.optimizer.clip_norm)[0]
        self.optimizer.step()
        loss, *beside = (
            shares[0] if len(shares) == 1 else torch.stack(shares).sum() for shares in zip(*parts, strict=True)
        )
        noise = None if part_norm is None else estimate(part_norm, norm, first.predicted, batch.predicted)
        return StepResult(loss, beside[0] if beside else None, norm, noise)

    def _backward(self, part: Batch, batch: Batch) -> tuple[Tensor, ...]:
        """Add the gradient of a part of a batch; give its share of the loss, and of the next-sentence loss if asked."""
        with self.autocast:
            output = self.read(*part.inputs)
        loss = mean_loss(logits_of(output), part.targets_BP, part.weights_BP)
        loss = loss * (part.predicted / max(1, batch.predicted))
        if part.follows_B is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return (loss.detach(),)
        beside = next_sentence_loss(output, part.follows_B) * (len(part.targets_BP) / len(batch.targets_BP))
        (loss + beside).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), beside.detach()
