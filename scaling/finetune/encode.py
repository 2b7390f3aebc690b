"""Encoding of texts and answers as rectangles of ids; every example is as long as the shape requires.

N examples, T tokens, P predictions, S source tokens
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.tokenizers import END_ID, Tokenizer
from scaling.finetune.tasks import Example
from scaling.objectives.batch import Batch, batch_of
from scaling.shapes.families import EncoderDecoderShape
from scaling.spec.run_spec import FinetunedSpec

PAD = END_ID  # fills rows up, and begins an encoder-decoder's target as in pretraining
Array = NDArray[Any]


@dataclass(frozen=True)
class Encoded:
    """Encoded examples, along the first axis of every array."""

    inputs: tuple[Array, ...]  # arguments of the model's forward
    targets_NP: Array
    weights_NP: Array | None  # True where a target counts; None: every target counts
    prompts_N: Array  # numbers of tokens before a decoder's answers

    def __len__(self) -> int:
        return len(self.targets_NP)

    def batch(self, rows: Array | slice) -> Batch:
        """A batch of the examples `rows`, for the losses of `scaling.objectives.losses`."""
        weights = None if self.weights_NP is None else self.weights_NP[rows]
        return batch_of(tuple(array[rows] for array in self.inputs), self.targets_NP[rows], weights)

    def batches(self, size: int) -> Iterator[Batch]:
        """All examples in order, at most `size` at a time."""
        for first in range(0, len(self), size):
            yield self.batch(slice(first, first + size))


def encode(spec: FinetunedSpec, examples: Sequence[Example], classes: Sequence[str], tokenizer: Tokenizer) -> Encoded:
    """Encode examples for a run; a text or an answer that is too long loses its end."""
    texts = [tokenizer.encode(example.text).astype(np.int64) for example in examples]
    both_ways = spec.objective.kind == "prefix"  # a prefix decoder reads its prompt in both directions
    if classes:
        number = {name: k for k, name in enumerate(classes)}
        tokens_NT, lengths_N = _rectangle(texts, spec.model.context)
        labels_N1 = np.array([[number[example.answer]] for example in examples])
        return Encoded((tokens_NT, lengths_N, *((lengths_N,) if both_ways else ())), labels_N1, None, lengths_N)
    end = np.array([tokenizer.end_id])
    longest = spec.finetuned.answer_tokens
    answers = [np.append(tokenizer.encode(example.answer).astype(np.int64)[:longest], end) for example in examples]
    if isinstance(spec.model, EncoderDecoderShape):
        source_NS, _ = _rectangle(
            [np.append(text[: spec.model.context - 1], end) for text in texts], spec.model.context
        )
        targets_NP, counts_N = _rectangle(answers, spec.model.target_context)
        before_NP = np.pad(targets_NP[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        return Encoded((source_NS, before_NP), targets_NP, _first(counts_N, targets_NP.shape[1]), counts_N * 0)
    room = spec.model.context - longest - 1
    prompts = [np.append(text[:room], end) for text in texts]  # the end of a document separates text and answer
    whole = [np.concatenate(pair) for pair in zip(prompts, answers, strict=True)]
    tokens_NS, counts_N = _rectangle(whole, spec.model.context + 1)
    prompts_N = np.array([len(prompt) for prompt in prompts])
    context = spec.model.context
    weights_NP = _first(counts_N - 1, context) & ~_first(prompts_N - 1, context)
    inputs = (tokens_NS[:, :-1], *((prompts_N,) if both_ways else ()))
    return Encoded(inputs, tokens_NS[:, 1:], weights_NP, prompts_N)


def _rectangle(rows: Sequence[Array], width: int) -> tuple[Array, Array]:
    """Rows cut or filled up to `width`, and the number of each row's own ids."""
    filled = np.full((len(rows), width), PAD, dtype=np.int64)
    for place, row in zip(filled, rows, strict=True):
        place[: len(row)] = row[:width]
    return filled, np.array([min(len(row), width) for row in rows])


def _first(counts_N: Array, width: int) -> Array:
    first: Array = np.arange(width) < counts_N[:, None]
    return first
