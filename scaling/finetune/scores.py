"""Scores of answers: ROUGE-L, BLEU and chrF of texts, and means with their standard errors over documents."""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from scaling.extras import extra
from scaling.train.validation import ratio_and_error

BUCKETS = 64  # buckets of documents whose sums a record keeps: enough for the error of a paired difference
Scores = dict[str, dict[str, float | None]]


def by_group(values: Sequence[float], counts: Sequence[float], groups: Sequence[str]) -> tuple[float, float | None]:
    """The ratio of summed values to summed counts, and its standard error over groups; None below two groups."""
    sums, totals = (np.array(_sums(numbers, groups)) for numbers in (values, counts))
    mean, error = ratio_and_error(sums, totals)
    return mean, None if math.isnan(error) else error


def in_buckets(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Sums of values over at most BUCKETS buckets of whole groups; equal groups give equal buckets."""
    number = {name: k for k, name in enumerate(dict.fromkeys(groups))}
    return _sums(values, [number[name] % BUCKETS for name in groups])


def _sums(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    sums: dict[Hashable, float] = {}
    for value, group in zip(values, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + value
    return list(sums.values())


def rouge_l(answers: Sequence[str], wanted: Sequence[str], groups: Sequence[str]) -> Scores:
    """ROUGE-L's F1 over words, as the mean over examples (Lin 2004, section 3), 0 to 1."""
    f1 = [_longest_f1(a.lower().split(), w.lower().split()) for a, w in zip(answers, wanted, strict=True)]
    value, error = by_group(f1, [1.0] * len(f1), groups)
    return {"rouge_l": {"value": value, "se": error}}


def _longest_f1(answer: list[str], wanted: list[str]) -> float:
    """F1 of the longest common subsequence: twice its length over the sum of both lengths."""
    row = [0] * (len(wanted) + 1)
    for word in answer:
        before = 0  # the previous row's value, one column to the left
        for k, other in enumerate(wanted, 1):
            before, row[k] = row[k], before + 1 if word == other else max(row[k], row[k - 1])
    return 2 * row[-1] / max(1, len(answer) + len(wanted))


def bleu_and_chrf(answers: Sequence[str], wanted: Sequence[str], groups: Sequence[str]) -> Scores:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of the whole corpus, by sacrebleu (Post 2018), 0 to 100."""
    sacrebleu = extra("sacrebleu", "task=translation")
    return {
        "bleu": {"value": sacrebleu.corpus_bleu(list(answers), [list(wanted)]).score, "se": None},
        "chrf": {"value": sacrebleu.corpus_chrf(list(answers), [list(wanted)]).score, "se": None},
    }


# Scores of text answers by task; a classification's accuracy comes with its losses.
TEXT_SCORES: dict[str, Callable[[Sequence[str], Sequence[str], Sequence[str]], Scores]] = {
    "docstrings": rouge_l,
    "translation": bleu_and_chrf,
}
