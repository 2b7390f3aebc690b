"""What a training step found."""

from dataclasses import dataclass

from torch import Tensor

from scaling.train.gradient_noise import GradientNoise


@dataclass(frozen=True)
class StepResult:
    """What a step found, on the model's device: reading it waits for the device."""

    loss: Tensor  # mean over the batch's predicted tokens, nats
    next_loss: Tensor | None  # of whether the second text follows the first, nats a sequence; None where not asked
    grad_norm: Tensor  # before clipping
    noise: GradientNoise | None  # of its gradient, where that was asked for and could be measured

    def clone(self) -> "StepResult":
        """The same, in memory of its own."""
        next_loss = None if self.next_loss is None else self.next_loss.clone()
        return StepResult(self.loss.clone(), next_loss, self.grad_norm.clone(), self.noise)
