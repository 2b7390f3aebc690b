"""Kinds of parallelism: how the devices of a run share its weights, gradients and optimizer's state.

ddp: every device holds everything. fsdp: every device holds a shard of everything. hsdp: the devices hold a few copies,
each of which is sharded over some of the devices.
"""

AUTO, DDP, FSDP, HSDP = "auto", "ddp", "fsdp", "hsdp"
CHOICES = (AUTO, DDP, FSDP, HSDP)
HSDP_COPIES = 2  # copies of the weights: the fewest that are several, because more take more memory


def shards_of(kind: str, devices: int) -> int:
    """The devices that share one copy of the weights: 1 where each holds a copy of its own."""
    return {AUTO: 1, DDP: 1, FSDP: devices, HSDP: devices // HSDP_COPIES}[kind]


def check_parallel(kind: str, devices: int, cuda_graphs: bool) -> None:
    """ValueError for a kind of parallelism that so many devices cannot have, or not with recorded steps."""
    if kind in (AUTO, DDP):
        return
    asked = f"runtime.parallel={kind}"
    if devices < 2:
        raise ValueError(
            f"{asked} shards a model over several devices, and runtime.devices_per_run={devices}; choose "
            f"runtime.parallel=auto, or runtime.devices_per_run=2 or more"
        )
    if kind == HSDP and (devices % HSDP_COPIES or devices == HSDP_COPIES):
        raise ValueError(
            f"{asked} shards {HSDP_COPIES} copies of a model over as many devices each, and "
            f"runtime.devices_per_run={devices}; choose an even number from 4 on, or runtime.parallel=fsdp"
        )
    if cuda_graphs:
        raise ValueError(
            f"{asked} exchanges weights within a step, which cannot be recorded; choose runtime.cuda_graphs=false"
        )
