"""Storage formats of weights: exact bytes, and the values as read back.

R rows of a matrix, its output channels; C columns
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

INT8_LEVELS = 127  # symmetric: -127 to 127, so that 0 is exact

# A tensor's stored bytes, and its values as read back, in float32.
Stored = tuple[int, Tensor]


def fp32(weight: Tensor) -> Stored:
    """Float32, as trained."""
    return 4 * weight.numel(), weight.float()


def bf16(weight: Tensor) -> Stored:
    """Weights rounded to bfloat16."""
    return 2 * weight.numel(), weight.bfloat16().float()


def int8(weight: Tensor) -> Stored:
    """A matrix as integers with one fp32 scale per row, its largest absolute value / 127; any other tensor as bf16.

    Symmetric and per output channel (Jacob et al. 2018, section 2.1; Krishnamoorthi 2018, section 2.4).
    """
    if weight.ndim != 2:
        return bf16(weight)
    weight_RC = weight.float()
    largest_R1 = weight_RC.abs().amax(dim=1, keepdim=True)
    scale_R1 = torch.where(largest_R1 > 0, largest_R1 / INT8_LEVELS, 1.0)
    integers_RC = (weight_RC / scale_R1).round().to(torch.int8)
    return integers_RC.numel() + 4 * scale_R1.numel(), integers_RC.float() * scale_R1


FORMATS: dict[str, Callable[[Tensor], Stored]] = {"fp32": fp32, "bf16": bf16, "int8": int8}


def store(weights: Mapping[str, Tensor], name: str) -> tuple[int, dict[str, Tensor]]:
    """Store all weights in a format of FORMATS: their bytes in all, and the weights as read back."""
    stored = {key: FORMATS[name](weight) for key, weight in weights.items()}
    return sum(size for size, _ in stored.values()), {key: weight for key, (_, weight) in stored.items()}
