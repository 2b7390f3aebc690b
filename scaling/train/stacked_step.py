"""Stacked steps: the training steps of several models of one shape, taken as one.

R models, N numbers of a flat vector
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaling.model.stacked import stack
from scaling.model.tower import compile_blocks
from scaling.objectives.batch import Batch, join
from scaling.objectives.losses import logits_of, mean_losses
from scaling.train.cuda_graph import GraphedStep
from scaling.train.flat_parameters import clip_
from scaling.train.optimizers import joined, keep_rates_on, set_learning_rate
from scaling.train.step import Stepper, StepResult


@dataclass(frozen=True)
class StepRequest:
    """A step that a run awaits: the await hands the request to the run's driver, which sends the result back."""

    stepper: Stepper
    batch: Batch
    factor: float  # share of the peak learning rate
    measure_noise: bool
    due: bool  # whether the run will read the result at once

    def __await__(self) -> Generator["StepRequest", StepResult, StepResult]:
        return (yield self)

    @property
    def whole(self) -> bool:
        """Whether the step takes its batch whole."""
        return self.stepper.takes_whole(self.batch, self.measure_noise)

    def take(self) -> StepResult:
        """Take the step alone and return its result."""
        return self.stepper.take(self.batch, self.factor, measure_noise=self.measure_noise)


@dataclass(frozen=True)
class StackedResult:
    """Losses and gradient norms of a stacked step, on the models' device."""

    losses_R: Tensor  # means over each model's predicted tokens, nats
    norm_R: Tensor  # before clipping

    def clone(self) -> "StackedResult":
        """A copy of the result in memory of its own."""
        return StackedResult(self.losses_R.clone(), self.norm_R.clone())


class Stack:
    """A stack of steppers whose steps are taken as one; their flat parameters become rows of shared matrices.

    The stacked step is recorded and replayed where the steppers' own steps are.
    """

    def __init__(self, steppers: Sequence[Stepper]) -> None:
        first = steppers[0]
        self.steppers, self.models, self.device = list(steppers), len(steppers), first.device
        weights_RN, self.gradients_RN = (
            [vector.new_zeros(self.models, len(vector)) for vector in first.flat.weights_N] for _ in range(2)
        )
        for r, stepper in enumerate(steppers):
            stepper.move_to([w[r] for w in weights_RN], [g[r] for g in self.gradients_RN])
        names = {id(parameter): name for name, parameter in first.model.named_parameters()}
        parameters, self.gradients = {}, []
        for parameter, (group, place) in first.flat.places():
            here, shape = slice(place, place + parameter.numel()), (self.models, *parameter.shape)
            parameters[names[id(parameter)]] = nn.Parameter(weights_RN[group][:, here].view(shape))
            self.gradients.append(self.gradients_RN[group][:, here].view(shape))
        self.parameters, self.model = list(parameters.values()), stack(first.model, parameters)
        self.optimizers = [stepper.optimizer for stepper in steppers]
        self.joined = joined(self.optimizers)
        self.updating: list[torch.optim.Optimizer] = []  # the optimizers of the last stacked step
        self.graphed = None if first.new_graph is None else GraphedStep(self._take, first.new_graph, self.device)
        if first.recipe.compile:
            compile_blocks(self.model)

    def take(self, requests: Sequence[StepRequest]) -> list[StepResult]:
        """Results of all steppers' requests, in order: of one step where all batches are whole and of one shape."""
        first = requests[0]
        if not all(request.whole and request.batch.is_like(first.batch) for request in requests):
            return [request.take() for request in requests]
        factors = {optimizer: request.factor for optimizer, request in zip(self.optimizers, requests, strict=True)}
        if self.joined is not None and len(set(factors.values())) == 1:
            factors = {self.joined: first.factor}
        for optimizer, factor in factors.items():
            set_learning_rate(optimizer, factor)
        if self.graphed is not None and self.updating != list(factors):
            self.graphed.drop()  # the recording updates by other optimizers
        self.updating = list(factors)
        result = self._result(join([request.batch for request in requests]))
        return [StepResult(loss, {}, norm, None) for loss, norm in zip(result.losses_R, result.norm_R, strict=True)]

    def _result(self, batch: Batch) -> StackedResult:
        """The result of a step on the joined batch, replayed where steps are recorded."""
        if self.graphed is None:
            return self._take(batch)
        for optimizer in self.updating:
            keep_rates_on(optimizer, self.device)
        return self.graphed(batch)

    def _take(self, batch: Batch) -> StackedResult:
        batch, first = batch.to(self.device), self.steppers[0]
        with first.autocast:
            output = self.model.read(*batch.inputs)
        losses_R = mean_losses(logits_of(output), batch.targets_BP, batch.weights_BP, self.models)
        gradients = torch.autograd.grad(losses_R.sum(), self.parameters, materialize_grads=True)
        torch._foreach_copy_(self.gradients, gradients)
        norm_R = clip_(self.gradients_RN, first.recipe.optimizer.clip_norm)
        for optimizer in self.updating:
            optimizer.step()
        return StackedResult(losses_R.detach(), norm_R)
