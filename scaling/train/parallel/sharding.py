"""Sharding of a model over ranks by FSDP2: a rank holds a shard of every parameter, and gathers a block to compute it.

Every block is a group: its parameters are gathered together, and its gradients are summed together. All other
parameters are the root group, tied embeddings among them, which stays gathered from forward to backward. Gradients are
sums over ranks on every back end: torch averages over NCCL, and on gloo by default sums where it should average.
"""

import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from scaling.model.layers import Block

T = TypeVar("T")


class Root(nn.Module):
    """A sharded model: its forward computes anything of the model, with the root group's parameters gathered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], T]) -> T:
        return compute()


def shard(model: nn.Module, mesh: DeviceMesh, precision: str) -> Root:
    """Shard a model in place over the mesh, whose last dimension holds the ranks that share one copy.

    In bf16 the matrices are gathered in bfloat16, as autocast would cast them, and norms in float32, as autocast leaves
    them; gradients are summed in float32.
    """
    # A block adds the outputs of its parts out of place, so that outputs which are views are safe.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    half = precision == "bf16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in model.modules():
        if isinstance(block, Block):
            fully_shard(_matrices(block) if half else block, mesh=mesh, mp_policy=policy)
    root = Root(model)
    fully_shard(root, mesh=mesh, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False))
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return root


def _matrices(block: Block) -> list[nn.Module]:
    """The parts of a block that hold its matrices; its norms go to the root group."""
    return [part for name, part in block.named_children() if name in ("attention", "cross_attention", "mlp")]


def mesh_of(device: torch.device, ranks: int, shards: int, timeout_s: float) -> DeviceMesh:
    """The mesh of all ranks: `shards` ranks share a copy of the weights, rank r the shard r % shards."""
    table = torch.arange(ranks).view(-1, shards)

    def own(groups: Any) -> Any:
        return dist.new_subgroups_by_enumeration(  # type: ignore[no-untyped-call]
            groups.tolist(), timeout=timedelta(seconds=timeout_s)
        )[0]

    if len(table) == 1:
        return DeviceMesh.from_group(own(table), device.type, mesh_dim_names=("shard",))
    groups = [own(table.T), own(table)]
    return DeviceMesh.from_group(groups, device.type, mesh=table, mesh_dim_names=("copy", "shard"))


class Sharers:
    """The ranks that share one copy of the weights, and the exchange of whole tensors with one of them, the owner."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.place, self.count = dist.get_rank(group), dist.get_world_size(group)

    def rows(self, rows: int) -> tuple[int, int]:
        """The rows of a tensor in this rank's shard: from a first row to before a last."""
        most = self._most(rows)
        return min(rows, self.place * most), min(rows, (self.place + 1) * most)

    def gather(self, shard: Tensor, rows: int, owner: int) -> Tensor | None:
        """The whole tensor of `rows` rows at its owner, from every rank's shard; None elsewhere."""
        mine = self._padded(shard, rows)
        parts = [torch.empty_like(mine) for _ in range(self.count)] if self.place == owner else None
        dist.gather(mine, parts, group=self._group, group_dst=owner)
        return None if parts is None else torch.cat(parts)[:rows]

    def scatter(self, whole: Tensor | None, shard: Tensor, rows: int, owner: int) -> Tensor:
        """This rank's shard, of the shape of `shard`, of its owner's whole tensor."""
        mine = self._padded(torch.zeros_like(shard), rows)
        parts = None
        if whole is not None:
            padding = whole.new_zeros((self._most(rows) * self.count - rows, *whole.shape[1:]))
            parts = list(torch.cat([whole, padding]).chunk(self.count))
        dist.scatter(mine, parts, group=self._group, group_src=owner)
        return mine[: len(shard)]

    def move(self, tensor: Tensor, owner: int) -> Tensor:
        """The owner's tensor at the first rank; `tensor` itself elsewhere, where only its shape counts."""
        if owner == 0:
            return tensor
        if self.place == owner:
            dist.send(tensor, group=self._group, group_dst=0)
        elif self.place == 0:
            tensor = torch.empty_like(tensor)
            dist.recv(tensor, group=self._group, group_src=owner)
        return tensor

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over these ranks."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self._group)

    def _most(self, rows: int) -> int:
        return -(-rows // self.count)

    def _padded(self, shard: Tensor, rows: int) -> Tensor:
        """A copy of the shard with rows of zeros up to the number that the largest shard has."""
        padding = shard.new_zeros((self._most(rows) - len(shard), *shard.shape[1:]))
        return torch.cat([shard, padding])
