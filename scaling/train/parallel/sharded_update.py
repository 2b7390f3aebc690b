"""The update of a sharded model: each rank updates its shards, and a matrix of Muon goes whole to its owner."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scaling.spec.run_spec import RecipeSpec
from scaling.train.optimizers import ELEMENTWISE, Muon, build_optimizer
from scaling.train.parallel.sharding import Sharers


@dataclass
class Shard:
    """This rank's shard of a parameter, as the optimizer updates it."""

    name: str
    parameter: Any  # the DTensor whose gradient FSDP sums
    local: nn.Parameter  # shares the parameter's memory
    owned: nn.Parameter | None = None  # the whole change of a matrix of Muon, at its owner between gather and scatter
    owner: int | None = None  # the rank, among those that share a copy, that turns this matrix; None: elementwise

    @property
    def rows(self) -> int:
        """Rows of the whole parameter."""
        return int(self.parameter.shape[0])


class ShardedUpdate:
    """The recipe's optimizer on this rank's shards."""

    def __init__(self, model: nn.Module, recipe: RecipeSpec, sharers: Sharers) -> None:
        self.optimizer = build_optimizer(model, recipe)
        self.sharers = sharers
        parameters: Iterator[tuple[str, Any]] = model.named_parameters()
        self.shards = {
            parameter: Shard(name, parameter, nn.Parameter(parameter.to_local().detach()))
            for name, parameter in parameters
        }
        for group in self.optimizer.param_groups:
            own = [self.shards[parameter] for parameter in group["params"]]
            if not group.get(ELEMENTWISE):
                for number, shard in enumerate(own):
                    shard.owner = number % sharers.count
                    if shard.owner == sharers.place:
                        shard.owned = nn.Parameter(shard.local.new_empty(0))
            group["params"] = [shard.local for shard in own if shard.owner is None]

    def zero_gradients(self) -> None:
        """Drop all gradients, to which backward passes add."""
        for shard in self.shards.values():
            shard.parameter.grad = shard.local.grad = None

    @torch.no_grad()
    def norm(self) -> Tensor:
        """The norm of the whole gradient, float32; rows are summed by themselves, as one long sum loses digits."""
        gradients = (shard.parameter.grad.to_local() for shard in self._with_gradient())
        squares = [_row_norms(gradient).double().square().sum() for gradient in gradients]
        total = torch.stack(squares).sum()
        self.sharers.add_up([total])
        return total.sqrt().float()

    @torch.no_grad()
    def step(self, clip_norm: float | None) -> Tensor:
        """Clip, update all shards, and return the whole gradient's norm before clipping."""
        norm = self.norm()
        gradients: list[Tensor] = []
        for shard in self.shards.values():
            found = shard.parameter.grad
            # A parameter without gradient decays as on one device, where its gradient is zero.
            gradients.append(torch.zeros_like(shard.local) if found is None else found.to_local())
            shard.local.grad = gradients[-1]
        if clip_norm:
            torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if isinstance(self.optimizer, Muon):
            self._step_muon(self.optimizer)
        else:
            self.optimizer.step()
        self.zero_gradients()
        return norm

    def _step_muon(self, muon: Muon) -> None:
        """As `Muon.step`, with one matrix at once at each owner."""
        turning, elementwise = muon.parts
        group, *others = muon.param_groups
        turned = [shard for shard in self.shards.values() if shard.owner is not None]
        for first in range(0, len(turned), self.sharers.count):
            self._turn(turned[first : first + self.sharers.count], muon, turning, group)
        elementwise.state, elementwise.param_groups = muon.state, others
        elementwise.step()

    def _turn(self, turned: list[Shard], muon: Muon, turning: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        """Update matrices of different owners: gather their gradients, turn these whole, scatter the changes."""
        mine = None
        for shard in turned:
            assert shard.owner is not None
            assert shard.local.grad is not None
            whole = self.sharers.gather(shard.local.grad, shard.rows, shard.owner)
            if shard.owned is not None:
                assert whole is not None
                mine = shard.owned
                mine.data, mine.grad = torch.zeros_like(whole), whole  # decay leaves zeros, so that the change remains
        if mine is not None:
            turning.state, turning.param_groups = muon.state, [{**group, "params": [mine]}]
            turning.step()
        for shard in turned:
            assert shard.owner is not None
            change = self.sharers.scatter(
                None if shard.owned is None else shard.owned.data, shard.local, shard.rows, shard.owner
            )
            shard.local.mul_(1 - group["lr"] * group["weight_decay"]).add_(change)
        if mine is not None:
            mine.data, mine.grad = mine.new_empty(0), None

    def _with_gradient(self) -> Iterator[Shard]:
        return (shard for shard in self.shards.values() if shard.parameter.grad is not None)


def _row_norms(gradient: Tensor) -> Tensor:
    """Norms of a gradient's rows; the numbers themselves of a vector."""
    return torch.linalg.vector_norm(gradient, dim=1) if gradient.ndim == 2 else gradient
