"""Objectives turn a chunk of tokens into a batch of inputs and targets, as pure functions of the chunk and its draws.

B batch, T tokens, P predictions, V vocabulary; S = T + 1 tokens of a chunk
"""

from collections.abc import Callable

import numpy as np

from scaling.data.token_text import TokenText
from scaling.data.tokenizers import END_ID
from scaling.objectives.batch import Batch, Chunk, batch_of
from scaling.objectives.corruption import (
    Draws,
    Pair,
    choose_tokens,
    choose_words,
    cut_sentences,
    cut_spans,
    pair_up,
    replace,
)
from scaling.registry import choose
from scaling.spec.objective import Denoising, Infilling, Masked, Prefix, top_ids
from scaling.spec.run_spec import RunSpec

TRAINING, VALIDATION = 1, 2  # streams of draws, distinct from each other and from the stream of the batches' order


def causal(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict every token from the tokens before it (Radford et al. 2018)."""
    return batch_of((chunk_BS[:, :-1],), chunk_BS[:, 1:], None)


def prefix(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict the rest of a text from a beginning read in both directions (Raffel et al. 2020, section 3.2)."""
    objective = spec.objective
    assert isinstance(objective, Prefix)
    sequences, tokens = len(chunk_BS), chunk_BS.shape[1] - 1
    fraction_B = objective.shortest + (objective.longest - objective.shortest) * draws.uniform(sequences)
    seen_B = np.maximum(1, (fraction_B * tokens).astype(np.int64))
    weights_BT = np.arange(1, tokens + 1) >= seen_B[:, None]  # the prefix's last token predicts the first unseen token
    return batch_of((chunk_BS[:, :-1], seen_B), chunk_BS[:, 1:], weights_BT)


def recall(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict the last token of a record from the others; the chunk's own last token is the next record's first."""
    record_BT = chunk_BS[:, :-1]
    weights_BP = np.zeros((len(record_BT), record_BT.shape[1] - 1), dtype=bool)
    weights_BP[:, -1] = True
    return batch_of((record_BT[:, :-1],), record_BT[:, 1:], weights_BP)


def masked(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict hidden tokens from both sides (Devlin et al. 2019, section 3.1)."""
    objective, ids = spec.objective, added_ids(spec)
    assert isinstance(objective, Masked)
    tokens_BT = chunk_BS[:, :-1]
    starts_BT = text.word_starts(tokens_BT) if objective.whole_words and text is not None else None
    special_BT = np.zeros(tokens_BT.shape, dtype=bool)
    segments: tuple[Chunk, ...] = ()
    auxiliary: dict[str, Chunk] = {}
    if objective.next_sentence:
        tokens_BT, segments_BT, follows_B = pair_up(tokens_BT, ids["<cls>"], ids["<sep>"], draws)
        auxiliary = {"next": follows_B}
        special_BT = np.isin(tokens_BT, list(ids.values()))
        segments = (segments_BT,)
        if text is not None and objective.whole_words:
            starts_BT = text.word_starts(np.where(special_BT, END_ID, tokens_BT))
    count = spec.lengths.predicted
    chosen_BT = (
        choose_tokens(~special_BT, count, draws)
        if starts_BT is None
        else choose_words(starts_BT, ~special_BT, count, draws)
    )
    corrupted_BT = replace(
        tokens_BT, chosen_BT, objective.masked, objective.replaced, ids["<mask>"], spec.data.vocab_size, draws
    )
    # The head reads a fixed number of places: the chosen ones and, where these are fewer, others that do not count.
    slots = spec.model.stream_tokens()["predicted"]
    places_BP = np.sort(np.argsort(~chosen_BT, axis=1, kind="stable")[:, :slots], axis=1)
    targets_BP = np.take_along_axis(tokens_BT, places_BP, axis=1)
    weights_BP = np.take_along_axis(chosen_BT, places_BP, axis=1)
    return batch_of((corrupted_BT, places_BP, *segments), targets_BP, weights_BP, auxiliary)


def denoising(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict spans cut out of the source (Raffel et al. 2020, section 3.1.4)."""
    assert isinstance(spec.objective, Denoising)
    tokens, spans = spec.objective.cut(spec.model.context)
    sentinels = list(added_ids(spec).values())
    return _generate(cut_spans(chunk_BS[:, :-1], tokens, spans, sentinels, target_end(spec), draws))


def infilling(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict whole sentences cut out of the source (Donahue et al. 2020)."""
    assert isinstance(spec.objective, Infilling)
    assert text is not None
    context, sentinels, end = spec.model.context, list(added_ids(spec).values()), target_end(spec)
    return _generate(cut_sentences(chunk_BS[:, :-1], context, spec.objective.cut(context), sentinels, end, text, draws))


def _generate(pair: Pair) -> Batch:
    """A batch that predicts the target token by token from the source, beginning after END_ID."""
    before_BP = np.pad(pair.target_BP[:, :-1], ((0, 0), (1, 0)), constant_values=END_ID)
    return batch_of((pair.source_BS, before_BP), pair.target_BP, pair.weights_BP)


Function = Callable[[RunSpec, Chunk, Draws, TokenText | None], Batch]
OBJECTIVES: dict[str, Function] = {
    "causal": causal,
    "prefix": prefix,
    "recall": recall,
    "masked": masked,
    "denoising": denoising,
    "infilling": infilling,
}


def added_ids(spec: RunSpec) -> dict[str, int]:
    """Ids of the objective's added tokens by name: a pretrained vocabulary's own, or else the highest of the model."""
    names = spec.objective.added_tokens(spec.model.context)
    if spec.special is None:
        return top_ids(names, spec.model.vocab_size)
    return dict(zip(names, spec.special.added, strict=False))  # a fine-tuned run's shorter context needs fewer


def target_end(spec: RunSpec) -> int:
    """The id that ends an encoder-decoder's target."""
    return END_ID if spec.special is None else spec.special.end


def training_batch(spec: RunSpec, chunk_BS: Chunk, step: int, text: TokenText | None) -> Batch:
    """The batch of a training step, a function of (seed, step) and the chunk alone."""
    function = choose("objective", OBJECTIVES, spec.objective.kind)
    return function(spec, chunk_BS, Draws(spec.seed, step, TRAINING), text)


def validation_batch(spec: RunSpec, chunk_BS: Chunk, index: int, text: TokenText | None) -> Batch:
    """A batch of the validation set; every seed hides the same tokens."""
    function = choose("objective", OBJECTIVES, spec.objective.kind)
    return function(spec, chunk_BS, Draws(0, index, VALIDATION), text)
