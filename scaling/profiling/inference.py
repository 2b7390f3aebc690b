"""Timed inference: a prompt read at once, then tokens one by one with a key-value cache.

B batch, T tokens, S source tokens, P places to predict, D model width
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from scaling.model.layers import KeyValueCache
from scaling.shapes.families import EncoderDecoderShape
from scaling.shapes.shape import TransformerShape

MOST_NEW_TOKENS = 32  # tokens generated in one pass, so that a long context does not take minutes
PREFILL_WORDS = {
    "decoder": "one forward pass over a full context of {tokens} tokens, logits of every position",
    "encoder": "one forward pass over a full context of {tokens} tokens, logits of the usual hidden places",
    "encoder_decoder": "one forward pass over a full source of {tokens} tokens and the target's first, its logits",
}
GENERATION_WORDS = (
    "greedy, one token at a time with a key-value cache, each the time of one of the last {new} tokens of a full "
    "{stream} of {tokens}"
)
NO_GENERATION = {"encoder": "an encoder predicts hidden tokens from both sides and generates none"}


def new_tokens(shape: TransformerShape) -> tuple[int, str]:
    """The number of tokens that a timed pass generates, and the reason where it is 0."""
    if shape.kind in NO_GENERATION:
        return 0, NO_GENERATION[shape.kind]
    room = shape.towers()[-1].tokens
    return min(MOST_NEW_TOKENS, room // 2), "" if room > 1 else "a context of one token leaves none to generate"


def prompt(shape: TransformerShape, batch: int, device: torch.device) -> tuple[Tensor, ...]:
    """Arbitrary inputs of a prefill: a full context, and the other arguments of the family's forward."""
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(shape.vocab_size, (batch, shape.context), generator=generator)
    inputs = [tokens_BT]
    if shape.kind == "encoder":
        inputs.append(torch.arange(shape.stream_tokens()["predicted"]).expand(batch, -1))
    elif isinstance(shape, EncoderDecoderShape):
        inputs.append(tokens_BT[:, :1])
    return tuple(tensor.to(device) for tensor in inputs)


def prefill(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    """A prefill, as a call without arguments."""
    return lambda: model(*inputs)


def greedy(model: Any, shape: TransformerShape, inputs: tuple[Tensor, ...], new: int) -> Iterator[Tensor]:
    """Generate greedily: the token after a prompt, (B,), then `new` more, each from the last token and the cache.

    The prompt is the part of the inputs that leaves room for `new` tokens.
    """
    room = shape.towers()[-1].tokens
    caches = [KeyValueCache(room) for _ in range(shape.n_layers)]
    tokens_BT = inputs[-1]
    if isinstance(shape, EncoderDecoderShape):
        source_BSD = model.source(model.embedding(inputs[0]))
        tokens_BT = inputs[1].expand(-1, room - new)
        logits_BTV = model.decode(source_BSD, tokens_BT, caches)
    else:
        source_BSD = None
        logits_BTV = model(tokens_BT[:, : room - new], caches=caches)
    next_B = logits_BTV[:, -1].argmax(dim=-1)
    yield next_B
    for _ in range(new):
        next_B1 = next_B[:, None]
        logits_BTV = model(next_B1, caches=caches) if source_BSD is None else model.decode(source_BSD, next_B1, caches)
        next_B = logits_BTV[:, -1].argmax(dim=-1)
        yield next_B
