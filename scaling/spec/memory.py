"""Peak memory of a training step, from the shape: tensors kept for the backward pass, and the optimizer's state.

The count follows the layers in `scaling/model` as PyTorch differentiates them, tensor by tensor, in bytes.
"""

import math
from dataclasses import dataclass

from scaling.shapes.families import EncoderShape
from scaling.shapes.matmuls import parameter_counts
from scaling.shapes.shape import Tower, TransformerShape
from scaling.spec.parallel import AUTO, DDP, FSDP
from scaling.spec.run_spec import RunSpec

FP32 = 4  # bytes
CHUNK_LOGITS = 2**25  # logits that exist at once: 128 MiB in float32
FUSED_ROWS, ROWS_ALIGNED = 8192, 128  # fewest rows of logits at once that fill a GPU's matmuls, and their multiple
GATHERED_AT_ONCE = 2  # blocks of a sharded model: the one in computation and the next
# Tokens of a micro-batch at most: matmuls of so many rows fill a GPU (assumed), and more only take memory.
MOST_TOKENS = {"cuda": 2**16}
FREE_SHARE = 0.85  # share of the free memory for a step, because the memory estimate is good to about 15%
MOMENTS = 2  # moments of AdamW, each float32 like the weights and the gradients


def chunk_rows(vocabulary: int, fused: bool = False) -> int:
    """Predictions whose logits exist at once while a model trains; `fused` by a GPU's kernel for the loss."""
    rows = CHUNK_LOGITS // vocabulary
    return max(FUSED_ROWS, rows // ROWS_ALIGNED * ROWS_ALIGNED) if fused else max(1, rows)


@dataclass(frozen=True)
class Activations:
    """Bytes that one sequence leaves for the backward pass."""

    layers: int  # activations of all blocks of all towers
    largest_layer: int  # activations of the largest block
    inputs: int  # inputs of the blocks, which alone stay when the backward pass computes each block again
    ends: int  # activations of embeddings and final norms
    head: int  # activations of the head before the logits, and the gradient of its input
    passing: int  # the widest gradient on its way back

    def kept(self, recomputed: bool) -> int:
        """Bytes of one sequence at the moment the backward pass begins."""
        layers = self.inputs + self.largest_layer if recomputed else self.layers
        return self.ends + self.head + layers


def step_bytes(
    spec: RunSpec,
    micro_batch_sequences: int,
    recomputed: bool,
    recorded: bool = False,
    fused: bool = False,
    shards: int = 1,
) -> int:
    """Peak bytes of a training step, on each device, beyond what a process that has imported torch takes.

    Weights, gradients and the optimizer's state exist all the time. The peak beside them comes at the beginning or at
    the end of the backward pass. At the beginning all activations exist, the head's gradient and perhaps its last
    logits. At the end the embedding's gradient exists, of a tied embedding in two parts, before it is accumulated.
    A `recorded` step keeps this memory for its replays; steps that are taken directly need as much beside. The loss
    may be `fused` into one kernel. Devices that share one copy of the weights (`shards` of them) hold shards, gather a
    group at a time, and have their gradients only from the first backward pass on.
    """
    shape = spec.model
    params = FP32 * parameter_counts(shape)["total"]
    cast = params // 2 if spec.recipe.precision == "bf16" else 0  # a copy of the weights for the matmuls
    embedding = FP32 * shape.vocab_size * shape.d_model
    one = activations(spec)
    loose = max(_logits(spec, micro_batch_sequences, fused), micro_batch_sequences * one.passing)
    kept = micro_batch_sequences * one.kept(recomputed) + embedding
    ends = 2 * embedding if shape.tied_embeddings else embedding
    if shards > 1:
        groups, own = _groups(spec), params // shards
        cast = embedding // 2 if spec.recipe.precision == "bf16" else 0  # of the head; blocks are gathered as cast
        before = own if micro_batch_sequences * shards < spec.recipe.batch_sequences else 0  # another micro-batch's
        at_start = before + groups.blocks + cast + kept + loose
        # The root group's gradient, and the copy to be summed.
        at_end = own + 2 * groups.root + (embedding if shape.tied_embeddings else 0)
        return own * (1 + MOMENTS) + groups.root + max(at_start, at_end)
    return params * (2 + MOMENTS) + (2 if recorded else 1) * max(cast + kept + loose, ends)


@dataclass(frozen=True)
class Groups:
    """Bytes that a sharded model gathers: the root group's weights, and the blocks' at once with their gradients."""

    root: int
    blocks: int


def _groups(spec: RunSpec) -> Groups:
    """The groups of a sharded model (`train/parallel/sharding.py`)."""
    shape, half = spec.model, spec.recipe.precision == "bf16"
    counts = shape.parameters_by_group()
    own = ("attention", "cross_attention", "mlp") if half else ("attention", "cross_attention", "mlp", "norm")
    towers = len(shape.towers())
    largest = sum(counts.get(name, 0) // (1 if name == "cross_attention" else towers) for name in own) // shape.n_layers
    root = FP32 * (sum(counts.values()) - sum(counts.get(name, 0) for name in own))
    width = FP32 // 2 if half else FP32
    # A block's weights and the next block's, its gradient, and the float32 copy of the gradient that is summed.
    return Groups(root, largest * (GATHERED_AT_ONCE * width + width + FP32))


def chosen(spec: RunSpec, parallel: str, devices: int, available_bytes: float, recomputed: bool) -> str:
    """The kind of parallelism of a run: the kind asked for, or by itself shards where a whole model does not fit."""
    if parallel != AUTO:
        return parallel
    fits = step_bytes(spec, 1, recomputed) <= available_bytes
    return DDP if fits or devices == 1 else FSDP


def largest_micro_batch(
    spec: RunSpec,
    available_bytes: float,
    recomputed: bool,
    recorded: bool = False,
    fused: bool = False,
    most_tokens: float = math.inf,
    shards: int = 1,
) -> int:
    """The most sequences at once whose step fits, an even share of the batch; ValueError when not even one fits.

    A share has `most_tokens` at most, unless the whole batch is to be recorded. It divides the batch where that at most
    halves the share, in a compiled model and below `most_tokens`: a smaller rest would be compiled anew, and choose
    kernels and memory of its own.
    """
    batch = spec.recipe.batch_sequences
    fewest = 1 if recorded else max(1, min(batch, math.ceil(spec.batch_tokens / most_tokens)))
    fits = step_bytes(spec, 1, recomputed, recorded and batch == 1, fused, shards) <= available_bytes
    tried = None
    for parts in range(fewest, batch + 1) if fits else ():
        sequences = -(-batch // parts)
        if sequences == tried:
            continue
        tried = sequences
        # Only whole batches are recorded.
        if step_bytes(spec, sequences, recomputed, recorded and parts == 1, fused, shards) <= available_bytes:
            divisor = max(share for share in range(1, sequences + 1) if batch % share == 0)
            even = spec.recipe.compile or most_tokens < math.inf
            return divisor if even and 2 * divisor >= sequences else sequences
    needed = step_bytes(spec, 1, recomputed, shards=shards)
    remedy = "choose a smaller model or context" if recomputed else "try runtime.recompute_activations=true"
    raise ValueError(
        f"a training step needs about {needed / 1e9:.3g} GB for a single sequence, and about "
        f"{available_bytes / 1e9:.3g} GB are free: {remedy}"
    )


def activations(spec: RunSpec) -> Activations:
    """Activations of one sequence of the spec's model."""
    shape, width = spec.model, 2 if spec.recipe.precision == "bf16" else FP32
    towers = shape.towers()
    blocks = [tower.tokens * _block(shape, tower, width) for tower in towers]
    inputs = sum(FP32 * tower.tokens * shape.d_model for tower in towers) * shape.n_layers
    # The last norm before the head, or after post-norm blocks the input of head and cross-attention.
    ends = sum(tower.tokens * shape.d_model * (width + FP32 * (shape.norm_place == "pre")) for tower in towers)
    if isinstance(shape, EncoderShape) and shape.embedding_norm:
        ends += towers[0].tokens * shape.d_model * FP32
    passing = max(tower.tokens for tower in towers) * shape.d_ff * width
    return Activations(sum(blocks) * shape.n_layers, max(blocks), inputs, ends, _head(shape, width), passing)


def _block(shape: TransformerShape, tower: Tower, width: int) -> int:
    """Bytes of one token in one block."""
    d, kv = shape.d_model, shape.kv_width
    kept = tower.sublayers * (_norm(shape, width) + (width * d if shape.dropout else 0))
    kept -= FP32 * d * shape.parallel_residual  # both norms of a parallel block read the same stream
    kept += width * d  # output of attention
    if scores := _kept_scores(shape, shape.positions_kind == "relative"):
        kept += FP32 * (d + 2 * kv) + scores * tower.tokens
    else:
        rotated = d + kv if shape.positions_kind == "rotary" else 0
        kept += width * (d + 2 * kv + rotated)
    if tower.source_tokens is not None:
        per_token = tower.source_tokens / tower.tokens  # source tokens for each target token
        scores = _kept_scores(shape, biased=False)
        read = FP32 if scores else width
        cast = d if width != FP32 else 0  # copy of the source, anew in every layer
        kept += width * d + read * d + round(per_token * (read * 2 * kv + width * cast)) + scores * tower.source_tokens
    hidden_copies = {"relu": 1, "gelu": 2, "gelu_tanh": 2, "silu": 2, "relu2": 2, "swiglu": 4}[shape.activation]
    return kept + width * hidden_copies * shape.d_ff


def _norm(shape: TransformerShape, width: int) -> int:
    """Bytes of one token in a norm: its input in float32, and its result in the width of the next layer."""
    d = shape.d_model
    return FP32 * d + width * d + (FP32 * d if shape.norm_kind == "rmsnorm" else 0)


def _kept_scores(shape: TransformerShape, biased: bool) -> int:
    """Bytes of one query and key: none with flash attention, which takes no learned bias and, on a CPU, no dropout.

    Other attention keeps its weights, and with dropout also the mask and the masked weights, all in float32.
    """
    copies = 3 if shape.dropout else 1 if biased else 0
    return copies * FP32 * shape.n_heads


def _head(shape: TransformerShape, width: int) -> int:
    """Bytes of one sequence in the head, before the logits."""
    tokens = shape.stream_tokens()
    kept = 0
    for matmul in shape.head_matmuls():
        if matmul.fan_out == shape.vocab_size:
            kept += tokens[matmul.stream] * matmul.fan_in * width
        else:  # head transform of BERT: input, activation and norm
            kept += tokens[matmul.stream] * matmul.fan_out * (3 * width + FP32)
    return kept


def _logits(spec: RunSpec, sequences: int, fused: bool) -> int:
    """Bytes of one chunk of logits, and of their log-softmax in float32, which becomes their gradient.

    A fused loss writes the gradient over the logits; the product with them, the weight's gradient, exists beside.
    """
    shape = spec.model
    stream = shape.head_matmuls()[-1].stream
    rows = min(chunk_rows(shape.vocab_size, fused), sequences * shape.stream_tokens()[stream])
    if fused:
        width = 2 if spec.recipe.precision == "bf16" else FP32
        return shape.vocab_size * (rows * width + FP32 * shape.d_model)
    cast = 2 * FP32 if spec.recipe.precision == "bf16" else FP32  # logits in both precisions, or the gradient
    return rows * shape.vocab_size * (FP32 + cast)
