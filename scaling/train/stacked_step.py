"""Training steps of several models of one shape, taken as one.

R models, N numbers of a row
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from scaling.model.stacked import stack
from scaling.model.tower import compile_blocks
from scaling.objectives.batch import Batch, join
from scaling.objectives.losses import logits_of, mean_losses
from scaling.train.flat_parameters import clip_
from scaling.train.optimizers import joined, set_learning_rate
from scaling.train.step import Stepper
from scaling.train.step_result import StepResult


@dataclass(frozen=True)
class Ask:
    """A step that a run wants taken."""

    stepper: Stepper
    batch: Batch
    factor: float  # of the peak learning rate
    measure_noise: bool
    logged: bool  # whether the run will read at once what the step finds

    @property
    def whole(self) -> bool:
        """Whether its batch is not taken in parts, as it is to measure its noise."""
        return self.stepper.at_once(self.batch, self.measure_noise) >= len(self.batch.targets_BP)

    def take(self) -> StepResult:
        """Take it, alone."""
        return self.stepper.take(self.batch, self.factor, measure_noise=self.measure_noise)


class Stack:
    """Takes the steps of several steppers, which go on in memory that lies together."""

    def __init__(self, steppers: Sequence[Stepper]) -> None:
        first = steppers[0]
        self.steppers, self.models, self.device = list(steppers), len(steppers), first.device
        weights_RN, self.gradients_RN = (
            [row.new_zeros(self.models, len(row)) for row in first.rows.weights_N] for _ in range(2)
        )
        for r, stepper in enumerate(steppers):
            stepper.rows.move_to([w[r] for w in weights_RN], [g[r] for g in self.gradients_RN])
        names = {id(parameter): name for name, parameter in first.model.named_parameters()}
        parameters, self.gradients = {}, []
        for parameter, (row, place) in first.rows.places():
            here, shape = slice(place, place + parameter.numel()), (self.models, *parameter.shape)
            parameters[names[id(parameter)]] = nn.Parameter(weights_RN[row][:, here].view(shape))
            self.gradients.append(self.gradients_RN[row][:, here].view(shape))
        self.parameters, self.model = list(parameters.values()), stack(first.model, parameters)
        self.optimizers = [stepper.optimizer for stepper in steppers]
        self.joined = joined(self.optimizers)
        if first.recipe.compile:
            compile_blocks(self.model)

    def take(self, asks: Sequence[Ask]) -> list[StepResult]:
        """What every stepper, in their order, asks for: as one step where all ask for a whole one of the same size."""
        first = asks[0]
        if not all(ask.whole and ask.batch.is_like(first.batch) for ask in asks):
            return [ask.take() for ask in asks]
        factors = {optimizer: ask.factor for optimizer, ask in zip(self.optimizers, asks, strict=True)}
        if self.joined is not None and len(set(factors.values())) == 1:
            factors = {self.joined: first.factor}
        for optimizer, factor in factors.items():
            set_learning_rate(optimizer, factor)
        batch = join([ask.batch for ask in asks]).to(self.device)
        with first.stepper.autocast:
            output = self.model.read(*batch.inputs)
        losses_R = mean_losses(logits_of(output), batch.targets_BP, batch.weights_BP, self.models)
        found = torch.autograd.grad(losses_R.sum(), self.parameters, materialize_grads=True)
        torch._foreach_copy_(self.gradients, found)
        norm_R = clip_(self.gradients_RN, first.stepper.recipe.optimizer.clip_norm)
        for optimizer in factors:
            optimizer.step()
        return [StepResult(loss, None, norm, None) for loss, norm in zip(losses_R.detach(), norm_R, strict=True)]
