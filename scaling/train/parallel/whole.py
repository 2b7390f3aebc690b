"""Whole tensors of a sharded model: its checkpoints have the one format, and any number of ranks resumes them.

The format is the one of a model on one device, whose optimizer keeps a group's state as one flat vector
(`flat_parameters.py`), where every parameter has its place. Tensors are gathered and read one at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from scaling.records.leftovers import OPTIMIZER
from scaling.spec.run_spec import RecipeSpec
from scaling.train.checkpoint import Checkpoint, check_order
from scaling.train.flat_parameters import FlatParameters
from scaling.train.optimizers import build_optimizer
from scaling.train.parallel.sharded_update import Shard, ShardedUpdate

MOMENTUM = "momentum_buffer"  # the state of a matrix in torch's Muon


@dataclass(frozen=True)
class Place:
    """The place of a parameter's state in the state of an optimizer on one device."""

    owner: Tensor  # the parameter, or the flat vector that it is in, by which the optimizer keeps the state
    index: int  # number of the owner in the optimizer's order
    first: int  # position of the parameter's first number in the flat vector


class Whole:
    """The model and the optimizer of one device, at first without memory for their numbers."""

    def __init__(self, new_model: Callable[[], nn.Module], recipe: RecipeSpec) -> None:
        with torch.device("meta"):
            self.model = new_model()
            self.optimizer = build_optimizer(self.model, recipe)
            flat = FlatParameters(self.optimizer)
        owners = [group["params"] for group in self.optimizer.param_groups if group["params"]]
        number = {id(owner): index for index, owner in enumerate(owner for group in owners for owner in group)}
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        self.places: dict[str, Place] = {}
        for parameter, (group, first) in flat.places():
            owner = parameter if id(parameter) in number else owners[group][0]
            self.places[names[id(parameter)]] = Place(owner, number[id(owner)], first)

    def gather(self, update: ShardedUpdate, *, here: bool) -> None:
        """Gather all numbers in the host's memory, `here` at the first rank; all ranks must call this together."""
        weights: dict[str, Tensor] = {}
        for shard in update.shards.values():
            whole = update.sharers.gather(shard.local.detach(), shard.rows, 0)
            if whole is not None and here:
                weights[shard.name] = whole.cpu()
            for key, value in _states(update, shard):
                if value is not None and here:
                    self._keep(self.places[shard.name], key, value.cpu())
        if here:
            self.model.load_state_dict(weights, assign=True)

    def _keep(self, place: Place, key: str, value: Tensor) -> None:
        """Keep a parameter's state as its owner's, or at its place in its owner's."""
        state = self.optimizer.state[place.owner]
        if value.ndim and value.shape != place.owner.shape:
            vector = state.setdefault(key, torch.zeros(place.owner.shape, dtype=value.dtype))
            vector[place.first : place.first + value.numel()] = value.flatten()
        else:
            state[key] = value


def _states(update: ShardedUpdate, shard: Shard) -> Iterator[tuple[str, Tensor | None]]:
    """The whole state of a parameter by key, at the first rank; the other ranks take part."""
    if shard.owner is not None:
        own = {} if shard.owned is None else update.optimizer.state[shard.owned]
        empty = shard.local.new_empty(shard.parameter.shape)
        yield MOMENTUM, update.sharers.move(own.get(MOMENTUM, empty), shard.owner)
        return
    for key, value in update.optimizer.state[shard.local].items():
        yield key, update.sharers.gather(value, shard.rows, 0) if value.ndim else value


def restore(checkpoint: Checkpoint, update: ShardedUpdate, layout: Whole) -> None:
    """Load this rank's shards of a checkpoint's weights and of its optimizer's state."""
    weights: Any
    states: Any
    with (
        safe_open(checkpoint.path / "model.safetensors", "pt") as weights,
        safe_open(checkpoint.path / OPTIMIZER, "pt") as states,
    ):
        names = list(states.keys())
        check_order(checkpoint, {name: states.get_slice(name).get_shape() for name in names}, layout.optimizer)
        keys: dict[int, list[str]] = {}
        for name in names:
            index, _, key = name.partition(".")
            keys.setdefault(int(index), []).append(key)
        for shard in update.shards.values():
            first, stop = update.sharers.rows(shard.rows)
            with torch.no_grad():
                shard.local.copy_(weights.get_slice(shard.name)[first:stop])
            place = layout.places[shard.name]
            if shard.owner is not None and shard.owned is None:
                continue  # another rank turns this matrix
            state = update.optimizer.state[shard.local if shard.owned is None else shard.owned]
            row = shard.parameter.shape[1:].numel()
            for key in keys.get(place.index, ()):
                name = f"{place.index}.{key}"
                if shard.owned is not None or not states.get_slice(name).get_shape():
                    value = states.get_tensor(name)
                else:
                    value = states.get_slice(name)[place.first + first * row : place.first + stop * row]
                    value = value.view_as(shard.local)
                state[key] = value.to(shard.local.device, copy=True)  # what is read shares the memory of its file
