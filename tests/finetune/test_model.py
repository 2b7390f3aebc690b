"""A model at a task: what it reads, what it writes, and what an example costs."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.data.tokenizers import Bytes, Chars
from scaling.finetune.encode import encode
from scaling.finetune.generation import answer
from scaling.finetune.model import Classifier, start_model
from scaling.finetune.price import train_flops_per_example
from scaling.finetune.tasks import Example
from scaling.objectives.losses import mean_loss
from scaling.shapes.families import DecoderShape, EncoderDecoderShape
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import Objective, Prefix
from scaling.spec.run_spec import Finetuned, FinetunedSpec
from tests.examples import FAMILIES, SPEC

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tuning_of(shape: TransformerShape, objective: Objective, finetuned: Finetuned) -> FinetunedSpec:
    """A fine-tuning as SPEC has the rest."""
    fields = {name: getattr(SPEC, name) for name in ("special", "data", "recipe", "val_tokens", "seed")}
    return FinetunedSpec(model=shape, objective=objective, **fields, finetuned=finetuned)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("classes", [3, 0])
def test_the_price_of_an_example_is_what_torch_counts(family: str, positions: str, classes: int) -> None:
    if family == "encoder" and not classes:
        pytest.skip("an encoder writes no text")
    shape, objective = FAMILIES[family]
    tuned = Finetuned(None, "modules", "", 4, classes, 0 if classes else 3, 1, 0)
    spec = tuning_of(replace(shape, positions=positions, vocab_size=256), objective, tuned)
    examples = [Example("ab", "x", ""), Example("abcdefghijklmnopqrst", "y", ""), Example("c", "z", "")]
    model = start_model(spec, None)
    batch = encode(spec, examples, ("x", "y", "z") if classes else (), Bytes()).batch(slice(None))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        mean_loss(model(*batch.inputs), batch.targets_BP, batch.weights_BP).backward()
    assert counter.get_total_flops() == 3 * train_flops_per_example(spec)


@pytest.mark.parametrize("name", ["decoder", "prefix", "encoder_decoder"])
def test_what_is_written_is_the_likeliest_token_after_those_before_it(name: str) -> None:
    shape, objective = {**FAMILIES, "prefix": (FAMILIES["decoder"][0], Prefix("prefix", 0.1, 0.5))}[name]
    longest = 4
    shape = replace(shape, vocab_size=len(LETTERS) + 2, positions="rotary")
    if isinstance(shape, EncoderDecoderShape):
        shape = replace(shape, target_context=longest + 1)
    tuned = Finetuned(None, "translation", "", 2, 0, longest, 1, 2)
    spec = tuning_of(shape, objective, tuned)
    model = start_model(spec, None)
    texts, letters = ("ab", "hello there, you"), Chars(LETTERS, len(LETTERS) + 2)
    blind = encode(spec, [Example(text, "wrong", text) for text in texts], (), letters)
    answers = answer(model, spec, blind, letters, torch.device("cpu"), 2)
    assert all(answers)
    batch = encode(spec, [Example(t, a, t) for t, a in zip(texts, answers, strict=True)], (), letters).batch(
        slice(0, 2)
    )
    counts = torch.ones_like(batch.targets_BP) if batch.weights_BP is None else batch.weights_BP
    written = counts.bool() & (batch.targets_BP != letters.end_id)
    assert torch.equal(model(*batch.inputs).argmax(dim=-1)[written], batch.targets_BP[written])


def test_a_decoders_loss_is_of_the_answer_alone() -> None:
    shape = replace(FAMILIES["decoder"][0], vocab_size=256)
    assert isinstance(shape, DecoderShape)
    tuned = Finetuned(None, "translation", "", 1, 0, 5, 1, 1)
    encoded = encode(tuning_of(shape, SPEC.objective, tuned), [Example("abc", "xy", "")], (), Bytes())
    (tokens,), targets = encoded.inputs[:1], encoded.targets_NP
    assert tokens[0, :6].tolist() == [*b"abc", 0, *b"xy"]
    assert encoded.weights_NP is not None
    assert targets[encoded.weights_NP].tolist() == [*b"xy", 0]


def test_what_fills_up_a_text_is_not_pooled() -> None:
    shape, objective = FAMILIES["decoder"]
    spec = tuning_of(shape, objective, Finetuned(None, "modules", "", 1, 0, 1, 1, 0))
    model = Classifier(start_model(spec, None), shape, 2)
    nn.init.normal_(model.task_head.weight)
    lengths = torch.tensor([3])
    short, filled = torch.tensor([[5, 6, 7, 0, 0]]), torch.tensor([[5, 6, 7, 9, 8]])
    assert torch.equal(model(short, lengths), model(filled, lengths))
    assert not torch.equal(model(short, lengths), model(torch.tensor([[5, 6, 8, 0, 0]]), lengths))
