"""Checkpoints: weights and optimizer state as safetensors, the rest as JSON, whole or not at all.

Attempt NNNN writes checkpoint/NNNN-SSSSSSSS/ after SSSSSSSS steps. Nothing else needs saving: the data and the dropout
of a step are functions of (seed, step).
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scaling.records.attempt import Attempt, now

KEEP = 2  # the newest checkpoint, and one more in case the newest is unreadable


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


def save(
    attempt: Attempt,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    **also: Mapping[str, Tensor],
) -> None:
    """Write a checkpoint, then remove superseded checkpoints; `also` are further tables of tensors by name."""
    parent = attempt.run_dir / "checkpoint"
    parent.mkdir(exist_ok=True)
    final = parent / f"{attempt.number:04d}-{state['step']:08d}"
    if final.exists():
        return
    prepared = Path(tempfile.mkdtemp(dir=parent, prefix=f".{attempt.number:04d}-"))
    save_file(_tensors(model.state_dict()), prepared / "model.safetensors")
    save_file(_optimizer_tensors(optimizer), prepared / "optimizer.safetensors")
    for name, tensors in also.items():
        save_file(_tensors(tensors), prepared / f"{name}.safetensors")
    (prepared / "state.json").write_text(json.dumps(state))
    for path in prepared.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    os.chmod(prepared, 0o755)
    os.rename(prepared, final)
    if attempt.is_current():
        _remove_superseded(attempt.run_dir, keep=KEEP)


def latest(run_dir: Path) -> Checkpoint | None:
    """The furthest checkpoint that a run can resume from, or None."""
    for path in _newest_first(run_dir):
        checkpoint = _read(path)
        if checkpoint is not None and (path / "optimizer.safetensors").exists():
            return checkpoint
    return None


def save_weights(run_dir: Path, model: nn.Module) -> None:
    """Write a model's weights as the final weights of a finished run, in place of its checkpoints."""
    shutil.rmtree(run_dir / "checkpoint", ignore_errors=True)
    folder = run_dir / "checkpoint" / f"{0:04d}-{0:08d}"
    folder.mkdir(parents=True)
    save_file(_tensors(model.state_dict()), folder / "model.safetensors")
    (folder / "state.json").write_text(json.dumps({"step": 0}))


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """The weights of a finished run; ValueError where none were kept."""
    for path in _newest_first(run_dir):
        if _read(path) is not None:
            return load_file(path / "model.safetensors")
    raise ValueError(f"{run_dir} holds no weights; train it with runtime.keep_weights=true")


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer state in place, each on its own device.

    Raises ValueError for the state of another version's optimizer, whose tensors have another order or other shapes.
    """
    tensors = load_file(checkpoint.path / "optimizer.safetensors")
    updated = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = {int(name.partition(".")[0]): tensor.shape for name, tensor in tensors.items() if tensor.ndim}
    if any(index >= len(updated) or updated[index].shape != shape for index, shape in held.items()):
        raise ValueError(
            f"{checkpoint.path} was written by another version of this program, whose optimizer keeps its state in "
            f"another order; go on with that version, or delete {checkpoint.path.parent} to begin this run anew"
        )
    model.load_state_dict(load_file(checkpoint.path / "model.safetensors"))
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)


def weights_digest(weights: nn.Module | dict[str, Tensor]) -> str:
    """SHA-256 over the names and bytes of a model's weights, in name order."""
    digest = sha256()
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    for name, tensor in sorted(_tensors(state).items()):
        digest.update(name.encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return digest.hexdigest()


def finish(run_dir: Path, keep_weights: bool) -> None:
    """Remove the checkpoints of a published run; its final weights stay where `keep_weights` is set."""
    _remove_superseded(run_dir, keep=1 if keep_weights else 0)
    for path in _newest_first(run_dir):
        (path / "optimizer.safetensors").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # the folder stays where it holds weights
        (run_dir / "checkpoint").rmdir()


def _remove_superseded(run_dir: Path, keep: int) -> None:
    for path in _newest_first(run_dir)[keep:]:
        shutil.rmtree(path, ignore_errors=True)
    for path in (run_dir / "checkpoint").glob(".*"):  # half-written by a killed attempt
        shutil.rmtree(path, ignore_errors=True)


def _newest_first(run_dir: Path) -> list[Path]:
    paths = (run_dir / "checkpoint").glob("[0-9]*-[0-9]*")
    return sorted(paths, key=lambda path: tuple(map(int, reversed(path.name.split("-")))), reverse=True)


def _read(path: Path) -> Checkpoint | None:
    try:
        state = json.loads((path / "state.json").read_text())
        load_file(path / "model.safetensors")
    except (OSError, ValueError, SafetensorError):
        return None
    return Checkpoint(path, state)


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return _tensors({f"{index}.{key}": value for index, state in states.items() for key, value in state.items()})
