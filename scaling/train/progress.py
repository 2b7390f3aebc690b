"""How far a run has come: the numbers that a checkpoint keeps beside weights and optimizer."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from scaling.records.attempt import now
from scaling.train.checkpoint import Checkpoint


@dataclass
class Progress:
    """Steps taken, and what they took, over all attempts."""

    step: int = 0
    train_s: float = 0.0  # in training steps
    wall_s: float = 0.0  # in the training loop
    predicted_tokens: int = 0
    started_at: str = field(default_factory=now)
    trunk: dict[str, Any] | None = None  # the first "steps", where another run took them, and the run: "paid_by"

    @classmethod
    def at(cls, checkpoint: Checkpoint) -> "Progress":
        """The progress that a checkpoint kept."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in checkpoint.state.items() if name in names})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)
