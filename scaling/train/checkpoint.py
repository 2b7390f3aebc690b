"""Checkpoints: weights and optimizer state as safetensors, the rest as JSON, whole or not at all.

Attempt NNNN writes checkpoint/NNNN-SSSSSSSS/ after SSSSSSSS steps, with the digest of every file (`sums.py`). Nothing
else needs saving: the data and the dropout of a step are functions of (seed, step). A damaged checkpoint never blocks
its run: the run resumes from the one before, or starts anew.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scaling.data.files import SHOWN_DIGITS
from scaling.records.attempt import Attempt, now
from scaling.records.files import scratch_folder, sync_folder
from scaling.records.leftovers import OPTIMIZER, SUMS, newest_first, remove_superseded
from scaling.train.sums import damage, write_sums

LEAST_PAUSE = 30  # times that a checkpoint took: its writing beside a GPU's training takes 3% of the time at most
KEEP = 2  # the newest checkpoint, and one more in case the newest is damaged
DIGESTS = "digests"  # key of a state whose checkpoint has digests; older checkpoints have neither

Tables = Mapping[str, Mapping[str, Tensor]]  # tensors by name, of every file of tensors by its name


@dataclass(frozen=True)
class Checkpoint:
    """A readable checkpoint on disk."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A further table of tensors, by its name in `save`."""
        return load_file(self.path / f"{name}.safetensors")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Metric rows up to this step where another run wrote the checkpoint; else none: the attempts hold them."""
        return list(self.state.get("rows", ()))

    @property
    def own_step(self) -> int:
        """The step up to which this run's attempts hold its metric rows."""
        return 0 if "rows" in self.state else self.step


@dataclass(frozen=True)
class Start:
    """The start of an attempt: the checkpoint to resume from, None to start anew, and the damaged ones passed over."""

    checkpoint: Checkpoint | None
    damaged: tuple[Path, ...]
    warnings: tuple[str, ...]  # one line each

    @property
    def step(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.step

    @property
    def own_step(self) -> int:
        """The step up to which this run's attempts hold its metric rows."""
        return 0 if self.checkpoint is None else self.checkpoint.own_step

    def announce(self) -> None:
        """Print the warnings and set the damaged checkpoints aside; only the process that claimed the run may."""
        for warning in self.warnings:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        for path in self.damaged:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(_aside(path)))


@dataclass
class Progress:
    """Steps, seconds and tokens of a run so far, over all attempts."""

    step: int = 0
    train_s: float = 0.0  # seconds in training steps
    wall_s: float = 0.0  # seconds in the training loop
    predicted_tokens: int = 0
    started_at: str = field(default_factory=now)
    trunk: dict[str, Any] | None = None  # number of first "steps" that another run took, and that run's id, "paid_by"

    @classmethod
    def at(cls, checkpoint: Checkpoint) -> "Progress":
        """Progress restored from a checkpoint."""
        names = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in checkpoint.state.items() if name in names})

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return asdict(self)


def tables_of(model: nn.Module, optimizer: torch.optim.Optimizer, **also: Mapping[str, Tensor]) -> Tables:
    """The tensors of a checkpoint, in the memory where training changes them; `also` are further tables by name."""
    states = optimizer.state_dict()["state"]
    of_optimizer = {f"{index}.{key}": value for index, state in states.items() for key, value in state.items()}
    return {"model": model.state_dict(), "optimizer": of_optimizer, **also}


def save(attempt: Attempt, tables: Tables, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, then remove superseded checkpoints; the older ones stay until this one is whole."""
    parent = attempt.run_dir / "checkpoint"
    name = f"{attempt.number:04d}-{state['step']:08d}"
    if (parent / name).exists():
        return
    os.rename(_prepare(parent, name, tables, state), parent / name)
    sync_folder(parent)
    if attempt.is_current():
        remove_superseded(attempt.run_dir, keep=KEEP)


def pause_s(asked_s: float, took_s: float, device: torch.device) -> float:
    """Seconds from a checkpoint that took `took_s` to the next: as asked, longer where that disturbs a GPU too much."""
    return max(asked_s, LEAST_PAUSE * took_s) if device.type == "cuda" else asked_s


def latest(run_dir: Path) -> Start:
    """The furthest whole checkpoint that a run can resume from, with a warning about each that is damaged."""
    damaged: dict[Path, str] = {}
    found = None
    for path in newest_first(run_dir):
        try:
            whole = read(path)
        except (OSError, ValueError, SafetensorError) as error:
            damaged[path] = str(error)
            continue
        if (path / OPTIMIZER).exists():  # otherwise the folder holds final weights alone
            found = whole
            break
    instead = "the run starts anew" if found is None else f"the run resumes from step {found.step}, {found.path.name}"
    warnings = [f"{path} is damaged: {why}; set aside as {_aside(path)}, {instead}" for path, why in damaged.items()]
    if found is not None and DIGESTS not in found.state:
        warnings.append(f"{found.path} is from before checkpoints had digests: damage to its numbers cannot be seen")
    return Start(found, tuple(damaged), tuple(warnings))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint; ValueError states its damage. Without digests, only damage to the files' form shows."""
    if (path / SUMS).exists() and (why := damage(path)):
        raise ValueError(why)
    try:
        state = json.loads((path / "state.json").read_text())
    except ValueError as error:
        raise ValueError(f"state.json is no JSON ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise ValueError("state.json states no step")
    if not (path / SUMS).exists():
        if DIGESTS in state:
            raise ValueError(f"{SUMS} is missing")
        for file in {path / "model.safetensors", *path.glob("*.safetensors")}:
            load_file(file)
    return Checkpoint(path, state)


def save_weights(run_dir: Path, model: nn.Module) -> None:
    """Write a model's weights as the final weights of a finished run, in place of its checkpoints."""
    parent, name = run_dir / "checkpoint", f"{0:04d}-{0:08d}"
    prepared = _prepare(parent, name, {"model": model.state_dict()}, {"step": 0})
    for path in newest_first(run_dir):
        shutil.rmtree(path, ignore_errors=True)
    os.rename(prepared, parent / name)


def final_weights(run_dir: Path, weights_sha256: str) -> dict[str, Tensor]:
    """The weights of a finished run, whose record states their digest.

    Raises ValueError where none were kept, and for damaged ones.
    """
    remedy = f"put back a whole copy of the file, or delete {run_dir} and make this run again"
    for file in (path / "model.safetensors" for path in newest_first(run_dir)):
        if not file.exists():
            continue
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{file} is damaged and cannot be read ({error}), its record's weights have the sha256 "
                f"{weights_sha256[:SHOWN_DIGITS]}; {remedy}"
            ) from error
        if (found := weights_digest(weights)) != weights_sha256:
            raise ValueError(
                f"{file} holds weights of the sha256 {found[:SHOWN_DIGITS]}, not {weights_sha256[:SHOWN_DIGITS]}, "
                f"those of its record; {remedy}"
            )
        return weights
    raise ValueError(f"{run_dir} holds no weights; train it with runtime.keep_weights=true")


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer state in place, each on its own device.

    Raises ValueError for the state of another version's optimizer, whose tensors have another order or other shapes.
    """
    tensors = load_file(checkpoint.path / OPTIMIZER)
    check_order(checkpoint, {name: tensor.shape for name, tensor in tensors.items()}, optimizer)
    model.load_state_dict(load_file(checkpoint.path / "model.safetensors"))
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)


def check_order(checkpoint: Checkpoint, shapes: Mapping[str, Sequence[int]], optimizer: torch.optim.Optimizer) -> None:
    """ValueError where tensors of such shapes by name are the state of another version's optimizer."""
    updated = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = {int(name.partition(".")[0]): tuple(shape) for name, shape in shapes.items() if shape}
    if any(index >= len(updated) or tuple(updated[index].shape) != shape for index, shape in held.items()):
        raise ValueError(
            f"{checkpoint.path} was written by another version of this program, whose optimizer keeps its state in "
            f"another order; go on with that version, or delete {checkpoint.path.parent} to begin this run anew"
        )


def weights_digest(weights: nn.Module | dict[str, Tensor]) -> str:
    """SHA-256 over the names and bytes of a model's weights, in name order."""
    digest = sha256()
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    for name, tensor in sorted(_tensors(state).items()):
        digest.update(name.encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return digest.hexdigest()


def _aside(path: Path) -> str:
    return f".damaged-{path.name}"


def _prepare(parent: Path, name: str, tables: Tables, state: Mapping[str, Any]) -> Path:
    """A hidden folder with all files of the checkpoint `name` and their digests, safe on disk."""
    parent.mkdir(exist_ok=True)
    prepared = scratch_folder(parent, name)
    try:
        _fill(prepared, tables, state)
    except BaseException:  # a full disk needs the room
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    return prepared


def _fill(folder: Path, tables: Tables, state: Mapping[str, Any]) -> None:
    """Write a checkpoint's files and their digests into a folder, safe on disk."""
    for table, tensors in tables.items():
        path = folder / f"{table}.safetensors"
        save_file(_tensors(tensors), path)
        path.chmod(folder.stat().st_mode & 0o666)  # by the umask, as the folder; the library writes for its owner alone
    (folder / "state.json").write_text(json.dumps({**state, DIGESTS: SUMS}))
    files = list(folder.iterdir())
    with ThreadPoolExecutor(len(files)) as pool:  # the disk writes the files while this thread reads them
        synced = pool.map(_sync, files)
        write_sums(folder)
        list(synced)  # raises the error of a disk that could not write
    _sync(folder / SUMS)
    sync_folder(folder)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}
