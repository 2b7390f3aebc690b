"""Gradient noise, estimated from two batch sizes at no FLOPs beyond the training step's own.

McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1: the squared norm of a mean gradient over n tokens is on average
|G|^2 + tr(Sigma) / n, so that the norms of a micro-batch and of the whole batch determine both terms. One step's
estimates scatter widely and may be negative; their means over many steps, each taken by itself, give the noise scale
tr(Sigma) / |G|^2 (`scaling.analysis.health.noise_scale`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaling.machine.hardware import sums_dtype

EVERY = 64  # steps


@dataclass(frozen=True)
class GradientNoise:
    """Unbiased gradient-noise estimates of one step, on the model's device."""

    square: Tensor  # |G|^2, of the loss in nats per predicted token
    trace: Tensor  # tr(Sigma), the variance of one predicted token's gradient, summed over parameters

    def clone(self) -> "GradientNoise":
        """A copy of the estimates in memory of their own."""
        return GradientNoise(self.square.clone(), self.trace.clone())


def is_measured(step: int) -> bool:
    """Whether a step measures gradient noise, by its number alone: a branch takes the steps of a run trained alone."""
    return step % EVERY == 0


def estimate(part_norm: Tensor, whole_norm: Tensor, part_tokens: int, tokens: int) -> GradientNoise | None:
    """Gradient-noise estimates from the norms of a micro-batch's share of the gradient and of the batch's gradient.

    Tokens are predicted tokens; the share is the micro-batch's mean gradient times its share of the tokens. None where
    the micro-batch predicts no token, or all.
    """
    if not 0 < part_tokens < tokens:
        return None
    wide = sums_dtype(part_norm.device)
    of_part, of_whole = (part_norm.to(wide) * (tokens / part_tokens)) ** 2, whole_norm.to(wide) ** 2
    square = (tokens * of_whole - part_tokens * of_part) / (tokens - part_tokens)
    trace = (of_part - of_whole) / (1 / part_tokens - 1 / tokens)
    return GradientNoise(square, trace)


class GradientNoiseSum:
    """Sums of gradient-noise estimates since the last metric row, on the device."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=sums_dtype(device), device=device)
        self._steps = 0

    def restore(self, square: float, trace: float, steps: int) -> None:
        """Restore the sums that `state()` returned."""
        self._sums.copy_(torch.tensor([square, trace], dtype=self._sums.dtype))
        self._steps = steps

    def state(self) -> list[float]:
        """The two sums and their number of steps; reading them waits for the device."""
        return [*self._sums.tolist(), self._steps]

    def add(self, noise: GradientNoise) -> None:
        """Add the estimates of a step."""
        self._sums += torch.stack([noise.square, noise.trace])
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Return the means and their number of steps as entries of a metric row, and reset; empty without steps."""
        if not self._steps:
            return {}
        square, trace = (self._sums / self._steps).tolist()
        row = {"grad_square": square, "grad_trace": trace, "noise_steps": self._steps}
        self.restore(0.0, 0.0, 0)
        return row
