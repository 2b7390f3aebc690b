"""The Triton kernel of `fused_loss.py`, in a module of its own because Triton comes with torch for GPUs alone."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def cross_entropy_of_a_row(  # type: ignore[no-untyped-def]
    logits,
    targets,
    counts,
    losses,
    vocabulary,
    width,
    COUNTED: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the loss of the program's row, and with GRADIENT the loss's gradient over the row's logits."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * width
    target = tl.load(targets + row)
    count = 1.0
    if COUNTED:
        count = tl.load(counts + row)
    chosen = tl.load(logits + target).to(tl.float32)
    largest = float("-inf")  # logit so far
    total = 0.0  # of the exponentials so far, divided by the largest
    for start in range(0, vocabulary, BLOCK):
        column = start + tl.arange(0, BLOCK)
        logit = tl.load(logits + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(largest, tl.max(logit, axis=0))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(logit - larger), axis=0)
        largest = larger
    log_total = largest + tl.log(total)
    tl.store(losses + row, (log_total - chosen) * count)
    if GRADIENT:
        tl.debug_barrier()  # every thread has read the chosen logit before one of them writes over it
        for start in range(0, width, BLOCK):
            column = start + tl.arange(0, BLOCK)
            logit = tl.load(logits + column, mask=column < vocabulary, other=float("-inf")).to(tl.float32)
            slope = tl.exp(logit - log_total) - tl.where(column == target, 1.0, 0.0)
            tl.store(logits + column, (slope * count).to(logits.dtype.element_ty), mask=column < width)
