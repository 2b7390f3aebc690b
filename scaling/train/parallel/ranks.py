"""Ranks: processes that train one run together, each with its share of every batch, and with all weights or a shard.

Gradients are sums over the ranks' shares, so that every rank with all weights makes the same update. This is data
parallelism without torch's wrapper, which averages over ranks: a mean of means is wrong where ranks predict unequal
numbers of tokens. `sharded_step.py` shards the weights. Rank 0 leads: the others take its orders, one a step, over the
host's network, which waits for no device.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from scaling.objectives.batch import Batch
from scaling.train.validation import Computed

STEP, VALIDATE, WHOLE, END = 1, 2, 3, 4  # orders of rank 0; WHOLE gathers a sharded model
BACK_ENDS = ("gloo", "NCCL")  # names in the words of their errors


def meeting_place(host: str, port: int, timeout_s: float, *, opened: bool) -> Any:
    """The store where ranks meet: `opened` here, where port 0 is any free one, bound at once, or another process's."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=opened, wait_for_workers=False, timeout=timedelta(seconds=timeout_s)
    )


class RanksApartError(RuntimeError):
    """A rank has ended, or does not answer."""


class Ranks:
    """This process's place among the ranks of a run, and the exchanges between them."""

    def __init__(
        self,
        rank: int,
        count: int,
        store: Any,
        device: torch.device,
        timeout_s: float,
        apart: Callable[[RuntimeError], Exception] = lambda error: RanksApartError(str(error)),
    ) -> None:
        """Join the others over the store; `apart` makes the error of an exchange that failed."""
        self.rank, self.count, self.device, self.timeout_s = rank, count, device, timeout_s
        self._apart = apart
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with self._together():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=count, timeout=timedelta(seconds=timeout_s)
            )

    def close(self) -> None:
        """Leave the others."""
        dist.destroy_process_group()

    def order(self, order: int) -> bool:
        """Give the others rank 0's next order; return whether one of them was asked to stop."""
        return self._agree(order, stop=False)[1]

    def next_order(self, stop: bool) -> int:
        """Rank 0's next order; `stop`: whether this process was asked to stop, which rank 0 decides on."""
        return self._agree(0, stop)[0]

    def share(self, batch: Batch) -> Batch:
        """This rank's sequences of a batch, in order of the ranks, as evenly as they divide."""
        assert len(batch.targets_BP) >= self.count  # `check_limits` refuses others
        return batch.part(*self.span(len(batch.targets_BP)))

    def span(self, sequences: int) -> tuple[int, int]:
        """This rank's share of so many sequences: from a first to before a last, which may be none."""
        first, stop = (-(-sequences * rank // self.count) for rank in (self.rank, self.rank + 1))
        return first, stop

    def deals(self, number: int) -> bool:
        """Whether this rank evaluates the validation batch of a number."""
        return number % self.count == self.rank

    def compute(self, compute: Callable[[], Computed]) -> Computed:
        """The result of a function that computes with all weights, which are here."""
        return compute()

    def idles(self, batches: int) -> bool:
        """False: ranks with all weights compute without the others."""
        return False

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, the same bits on every rank."""
        with self._together():
            for tensor in tensors:
                dist.all_reduce(tensor)

    def check_same(self, weights_N: Sequence[Tensor], shards: int = 1) -> None:
        """RuntimeError where a rank's weights, of which `shards` ranks share a copy, have other bits than the first's.

        Without shards all ranks compare with rank 0.
        """
        sums = torch.zeros(self.count, len(weights_N), dtype=torch.int64)
        sums[self.rank] = torch.stack([weights.view(torch.int32).sum() for weights in weights_N]).cpu()
        self.add_up([sums])
        if others := [rank for rank in range(self.count) if not torch.equal(sums[rank], sums[rank % shards])]:
            raise RuntimeError(
                f"rank {others[0]} of {self.count} holds other weights than rank {others[0] % shards}: their "
                f"updates differ, so that this run is none; its last checkpoint is of rank 0"
            )

    def _agree(self, order: int, stop: bool) -> tuple[int, bool]:
        """Rank 0's order, and whether any rank asks for a stop."""
        sums = torch.tensor([order, int(stop)])
        self.add_up([sums])
        agreed, stops = sums.tolist()
        return agreed, stops > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context of computations that exchange weights, where an exchange that fails is the others' error."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and not any(name in str(error) for name in BACK_ENDS):
                raise  # an error of this rank's own
            raise self._apart(error) from error

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of torch, where a connection closed or a time was over
            raise self._apart(error) from error
