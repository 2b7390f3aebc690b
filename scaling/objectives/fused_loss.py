"""Cross-entropy and its gradient by one kernel for a GPU's logits, written in Triton, which torch for CUDA installs.

Operation by operation, a logit in bfloat16 is read and written in about 30 bytes; the kernel reads it twice and writes
its gradient over it, 6 bytes, as Liger's does (Hsu et al. 2024, arXiv 2410.10989). Sums are float32.

n rows, V vocabulary, W vocabulary with its padding
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK, WARPS = 4096, 8  # logits of a row at once, and the warps that take them (assumed: unmeasured)
TRIED = (3, 37, 64)  # rows, vocabulary and padded width of the trial
NEAR = 1e-2  # of a gradient in bfloat16, which is at most 1


@cache
def is_fused(device_type: str) -> bool:
    """Whether a device takes the kernel: a GPU whose trial gives the losses and gradients of torch's operations."""
    if device_type != "cuda" or find_spec("triton") is None:
        return False
    if why := failure(torch.device(device_type)):
        print(f"the loss is computed operation by operation, since its kernel {why}", flush=True)
    return not why


def failure(device: torch.device) -> str:
    """The failure of the kernel on a device; empty where the kernel works."""
    rows, vocabulary, width = TRIED
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, width, generator=draw).to(device, torch.bfloat16)
    targets = torch.arange(rows, device=device) * (vocabulary // rows)
    plain = logits[:, :vocabulary].float()
    expected, slope = F.cross_entropy(plain, targets, reduction="none"), plain.softmax(dim=1)
    slope[torch.arange(rows, device=device), targets] -= 1
    try:
        losses = cross_entropy_(logits, vocabulary, targets, None, gradient=True)
        right = torch.allclose(losses, expected, rtol=1e-4) and not logits[:, vocabulary:].any()
        right = right and torch.allclose(logits[:, :vocabulary].float(), slope, rtol=0, atol=NEAR)
    except Exception as error:  # of a compiler that is missing, or of another version of Triton
        return f"fails: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "" if right else "gives other numbers"


def cross_entropy_(
    logits_nW: Tensor, vocabulary: int, targets_n: Tensor, counts_n: Tensor | None, *, gradient: bool
) -> Tensor:
    """Cross-entropy of each row in nats times its count, (n), float32; with `gradient`, the logits become its gradient.

    Columns from `vocabulary` on are padding, whose gradient is zero.
    """
    assert logits_nW.is_contiguous()
    losses_n = torch.empty(len(logits_nW), dtype=torch.float32, device=logits_nW.device)
    _kernel()[(len(logits_nW),)](
        logits_nW,
        targets_n.contiguous(),
        losses_n if counts_n is None else counts_n.contiguous(),
        losses_n,
        vocabulary,
        logits_nW.shape[1],
        COUNTED=counts_n is not None,
        GRADIENT=gradient,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return losses_n


@cache
def _kernel() -> Any:
    from scaling.objectives.fused_kernel import cross_entropy_of_a_row

    return cross_entropy_of_a_row
