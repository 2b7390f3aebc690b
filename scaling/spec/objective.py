"""Objectives: the settings of each, and what follows from the settings before any training.

An objective decides which families it suits, how long the parts of a sequence are, and which tokens it adds to the
vocabulary. The functions from tokens to batches are in `scaling/objectives/`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scaling.spec.ranges import check_range

# Names of added tokens in published vocabularies (Devlin et al. 2019; Raffel et al. 2020).
PUBLISHED_NAMES = {"<mask>": "[MASK]", "<cls>": "[CLS]", "<sep>": "[SEP]"}
PUBLISHED_SENTINEL = "<extra_id_{}>"


@dataclass(frozen=True)
class Lengths:
    """Tokens of one sequence; all sequences of a run have the same lengths, so that batches are rectangular."""

    text: int  # tokens of the data that the sequence uses up
    predicted: int  # tokens that count in the loss, at most
    target: int = 0  # tokens of an encoder-decoder's target
    aligned: bool = False  # sequences begin at multiples of `text`, where the data's records begin


@dataclass(frozen=True)
class Objective:
    """An objective's kind, and the questions that every objective answers."""

    kind: str  # a key of OBJECTIVE_SPECS

    families: ClassVar[tuple[str, ...]]  # kinds of model that the objective suits
    predicts_every_token: ClassVar[bool] = False  # whether the loss is that of the text itself

    def lengths(self, context: int) -> Lengths:
        """The parts of a sequence of this context; ValueError when it is too short for the objective."""
        raise NotImplementedError

    def added_tokens(self, context: int) -> tuple[str, ...]:
        """Names of the tokens that the objective adds; those that a vocabulary lacks get the highest ids, downwards."""
        return ()

    def needs_text(self) -> str | None:
        """The setting that needs a tokenizer, or None."""
        return None


@dataclass(frozen=True)
class SpecialIds:
    """Ids in a pretrained vocabulary of tokens that an objective otherwise adds above the data's tokens."""

    added: tuple[int, ...]  # ids of `Objective.added_tokens`, in their order
    end: int  # id that ends an encoder-decoder's target; 0 without one


@dataclass(frozen=True)
class Causal(Objective):
    """Causal language modelling: each token is predicted from the tokens before it (Radford et al. 2018)."""

    families = ("decoder",)
    predicts_every_token = True

    def lengths(self, context: int) -> Lengths:
        return Lengths(text=context, predicted=context)


@dataclass(frozen=True)
class Prefix(Objective):
    """Prefix language modelling: a text's prefix is read in both directions, the rest is predicted.

    The prefix has a uniform share of the context, between two fractions (Raffel et al. 2020, section 3.2).
    """

    shortest: float
    longest: float
    families = ("decoder",)

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest < 1:
            raise ValueError(
                f"objective.shortest={self.shortest}, objective.longest={self.longest}: both must be at least 0 and "
                f"below 1, the first not above the second"
            )

    def lengths(self, context: int) -> Lengths:
        return Lengths(text=context, predicted=context)


@dataclass(frozen=True)
class Recall(Objective):
    """Recall: the data are records of context + 1 tokens, and the last token of each is predicted from the others."""

    families = ("decoder",)

    def lengths(self, context: int) -> Lengths:
        return Lengths(text=context + 1, predicted=1, aligned=True)


@dataclass(frozen=True)
class Masked(Objective):
    """Masked language modelling: hidden tokens are predicted from both sides (Devlin et al. 2019, section 3.1).

    A share `masked` of the chosen tokens becomes <mask>, a share `replaced` random tokens, and the rest stay.
    """

    rate: float  # share of the text that is chosen to be predicted
    masked: float  # share of the chosen tokens
    replaced: float  # share of the chosen tokens
    whole_words: bool  # words are chosen with all their tokens
    next_sentence: bool  # a second head predicts whether the second half follows the first or is another sequence's
    families = ("encoder",)

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        if self.masked < 0 or self.replaced < 0 or self.masked + self.replaced > 1:
            raise ValueError(
                f"objective.masked={self.masked}, objective.replaced={self.replaced}: shares of the chosen tokens, "
                f"neither below 0, together at most 1"
            )

    def lengths(self, context: int) -> Lengths:
        text = context - (3 if self.next_sentence else 0)  # <cls> one <sep> two <sep>
        if text < 2:
            raise ValueError(f"model.context={context} is too short for objective={self.kind}; use at least 5")
        return Lengths(text=text, predicted=max(1, round(self.rate * text)))

    def added_tokens(self, context: int) -> tuple[str, ...]:
        return ("<mask>", "<cls>", "<sep>") if self.next_sentence else ("<mask>",)

    def needs_text(self) -> str | None:
        return "objective.whole_words=true" if self.whole_words else None


@dataclass(frozen=True)
class Denoising(Objective):
    """Span corruption: spans cut out of the source are the target (Raffel et al. 2020, section 3.1.4)."""

    rate: float  # share of the text that is cut out
    mean_span: float  # tokens
    families = ("encoder_decoder",)

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        check_range("objective.mean_span", self.mean_span, least=1)

    def cut(self, context: int) -> tuple[int, int]:
        """Tokens that are cut out of a sequence, and their spans, for the longest text that fits.

        Each span leaves a sentinel, so the source holds the kept text and one sentinel a span.
        """
        if context < 2:
            raise ValueError(f"model.context={context} is too short for objective={self.kind}; use at least 2")
        text = 2
        while text + 1 - self._shortened(text + 1) <= context:
            text += 1
        return self._cut(text)

    def lengths(self, context: int) -> Lengths:
        """The parts of a sequence, which fills its source to the last token; the target ends with id 0."""
        tokens, spans = self.cut(context)
        target = tokens + spans + 1
        return Lengths(text=context - spans + tokens, predicted=target, target=target)

    def added_tokens(self, context: int) -> tuple[str, ...]:
        _, spans = self.cut(context)
        return tuple(f"<span {i}>" for i in range(spans))

    def _cut(self, text: int) -> tuple[int, int]:
        tokens = min(max(1, round(self.rate * text)), text - 1)
        return tokens, min(max(1, round(tokens / self.mean_span)), text - tokens)

    def _shortened(self, text: int) -> int:
        tokens, spans = self._cut(text)
        return tokens - spans


@dataclass(frozen=True)
class Infilling(Objective):
    """Sentence infilling: whole sentences cut out of the source are the target (Donahue et al. 2020).

    Sentences are drawn as long as they fit into a share `rate` of the context; padding fills the target to that share.
    """

    rate: float  # share of the context that is cut out, at most
    sentences: int  # sentences that are cut out of a sequence, at most
    families = ("encoder_decoder",)

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        check_range("objective.sentences", self.sentences, least=1)

    def cut(self, context: int) -> int:
        """Tokens that are cut out of a sequence, at most."""
        return max(1, round(self.rate * context))

    def lengths(self, context: int) -> Lengths:
        """The parts of a sequence, whose text exceeds the context by the tokens that may be cut out of it."""
        target = self.cut(context) + self.sentences + 1
        return Lengths(text=context + self.cut(context), predicted=target, target=target)

    def added_tokens(self, context: int) -> tuple[str, ...]:
        return tuple(f"<sentence {i}>" for i in range(self.sentences))

    def needs_text(self) -> str | None:
        return f"objective={self.kind}"


def asks_next_sentence(objective: Objective) -> bool:
    """Whether the model also predicts if the second text follows the first."""
    return isinstance(objective, Masked) and objective.next_sentence


def names_of(added: str) -> tuple[str, ...]:
    """Names that a vocabulary may have for an added token: the name here and the published one."""
    sentinel = re.fullmatch(r"<(?:span|sentence) (\d+)>", added)
    published = PUBLISHED_SENTINEL.format(sentinel[1]) if sentinel else PUBLISHED_NAMES.get(added)
    return (added,) if published is None else (added, published)


def own_ids(objective: Objective, context: int, vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Added tokens of the objective that a vocabulary has as special tokens, with their ids there."""
    found = {}
    for name in objective.added_tokens(context):
        ids = [vocabulary[known] for known in names_of(name) if known in vocabulary]
        if ids:
            found[name] = ids[0]
    return found


def special_ids(
    objective: Objective, context: int, vocab_size: int, own: Mapping[str, int], end_id: int | None
) -> SpecialIds | None:
    """Ids of the objective's tokens where a vocabulary has some of them (`own`); None where all have the usual ids."""
    names = objective.added_tokens(context)
    usual = top_ids(names, vocab_size)
    lacking = top_ids([name for name in names if name not in own], vocab_size)
    ids = {**own, **lacking}
    end = (end_id or 0) if own and objective.lengths(context).target else 0
    if ids == usual and not end:
        return None
    return SpecialIds(tuple(ids[name] for name in names), end)


def top_ids(names: Sequence[str], vocab_size: int) -> dict[str, int]:
    """The highest ids of a vocabulary by name, the first name highest."""
    return {name: vocab_size - 1 - i for i, name in enumerate(names)}


OBJECTIVE_SPECS: dict[str, type[Objective]] = {
    "causal": Causal,
    "prefix": Prefix,
    "recall": Recall,
    "masked": Masked,
    "denoising": Denoising,
    "infilling": Infilling,
}


def check_pair(family: str, objective: Objective) -> None:
    """ValueError, which lists the pairs that go together, where the objective does not suit this kind of model."""
    if family in objective.families:
        return
    pairs = "; ".join(f"{', '.join(spec.families)} with objective={kind}" for kind, spec in OBJECTIVE_SPECS.items())
    raise ValueError(f"objective={objective.kind} does not go with model.kind={family}: choose from {pairs}")


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"objective.rate={rate}: must lie between 0 and 1")
