"""Steps that several processes share, for the tests: every family and objective, optimizer and way to take a step."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaling.data.token_text import TokenText
from scaling.model import build
from scaling.model.tower import recompute_activations
from scaling.objectives.batch import Batch
from scaling.objectives.objectives import training_batch, validation_batch
from scaling.spec.objective import Infilling, Masked, Prefix
from scaling.spec.parametrization import Base, parametrize
from scaling.spec.run_spec import RunSpec
from scaling.spec.schedule import learning_rate_factor
from scaling.train.checkpoint import weights_digest
from scaling.train.parallel.ranks import Ranks, meeting_place
from scaling.train.parallel.sharded_step import ShardedStepper
from scaling.train.step import Stepper
from scaling.train.validation import Validation
from tests.examples import ENCODER, ENCODER_DECODER, FAMILIES, SPEC, TINY

STEPS, SEQUENCES, MEASURED = 40, 6, 7  # three ranks share six sequences evenly, four do not
CPU = torch.device("cpu")
PATIENT_S = 600.0  # four processes that load torch on a busy machine take their time


@dataclass(frozen=True)
class Case:
    """A spec and the ways in which its steps are taken."""

    spec: RunSpec
    micro_batch: int = SEQUENCES
    recomputed: bool = False
    unused: bool = False  # a parameter gets no gradient

    def model(self) -> nn.Module:
        """The model at its beginning."""
        model = build(self.spec.model, self.spec.seed, self.spec.recipe.multipliers)
        if self.recomputed:
            recompute_activations(model)
        if self.unused:
            model.head_unused = nn.Parameter(torch.ones(5, 3))
        return model


@dataclass(frozen=True)
class Found:
    """Numbers of a case: losses and gradient norms of all steps, gradient noise of one, validations and weights."""

    losses: list[float]
    auxiliary: list[float]
    norms: list[float]
    noise: tuple[float, float]
    before: Validation
    after: Validation
    initial: str  # digest of the whole model's weights
    final: dict[str, Tensor]  # the whole model's weights


def _spec(**changes: Any) -> RunSpec:
    recipe = replace(SPEC.recipe, steps=STEPS, batch_sequences=SEQUENCES)
    recipe = replace(recipe, schedule=replace(recipe.schedule, warmup_steps=4, cooldown_steps=8))
    return replace(SPEC, recipe=recipe, **changes)


def cases() -> dict[str, Case]:
    """The cases by name."""
    found = {name: Case(_spec(model=model, objective=objective)) for name, (model, objective) in FAMILIES.items()}
    found["prefix"] = Case(_spec(model=TINY, objective=Prefix("prefix", 0.1, 0.9)))
    words = Masked("masked", 0.4, 0.8, 0.1, whole_words=True, next_sentence=False)
    found["whole words"] = Case(_spec(model=replace(ENCODER, predicted=words.lengths(16).predicted), objective=words))
    pairs = Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=True)
    shape = replace(ENCODER, vocab_size=40, next_sentence=True, predicted=pairs.lengths(16).predicted)
    found["next sentence"] = Case(_spec(model=shape, objective=pairs))
    infilling = Infilling("infilling", 0.4, 3)
    shape = replace(
        ENCODER_DECODER, context=64, target_context=infilling.lengths(64).target, vocab_size=TINY.vocab_size + 3
    )
    found["infilling"] = Case(_spec(model=shape, objective=infilling))
    decoder = found["decoder"].spec
    recipe = decoder.recipe
    found["muon"] = Case(replace(decoder, recipe=replace(recipe, optimizer=replace(recipe.optimizer, kind="muon"))))
    for kind in ("mup", "completep"):
        optimizer, scaled = parametrize(kind, TINY, Base(8, 1, 2), recipe.optimizer)
        found[kind] = Case(replace(decoder, recipe=replace(recipe, optimizer=optimizer, parametrization=scaled)))
    found["unclipped"] = Case(
        replace(decoder, recipe=replace(recipe, optimizer=replace(recipe.optimizer, clip_norm=None)))
    )
    found["accumulated"] = Case(found["prefix"].spec, micro_batch=1)
    found["muon, accumulated"] = Case(
        replace(found["prefix"].spec, recipe=found["muon"].spec.recipe), micro_batch=1, unused=True
    )
    found["recomputed"] = Case(decoder, recomputed=True)
    found["bf16"] = Case(replace(decoder, recipe=replace(recipe, precision="bf16")))
    post = replace(TINY, norm_place="post")
    found["bf16, recomputed"] = Case(replace(found["bf16"].spec, model=post), recomputed=True)
    return found


def batch_of(spec: RunSpec, step: int) -> Batch:
    """A batch of random tokens for a step, of an objective that needs no text."""
    tokens = np.random.default_rng(step).integers(0, spec.data.vocab_size, (SEQUENCES, spec.lengths.text + 1))
    return training_batch(spec, tokens, step, None)


def whole(stepper: Stepper, ranks: Ranks | None) -> nn.Module:
    """The whole model at rank 0."""
    if stepper.shards > 1 and ranks is not None and ranks.rank:
        ranks.next_order(stop=False)
    return stepper.whole()[0]


def taken(case: Case, ranks: Ranks | None, shards: int = 1, steps: int = STEPS) -> Found:
    """Take steps of a case, alone or with the other ranks, of which `shards` share a copy of the weights."""
    spec = case.spec
    stepper: Stepper
    if ranks is not None and shards > 1:
        stepper = ShardedStepper(case.model(), spec.recipe, case.micro_batch, ranks, shards, case.model)
    else:
        stepper = Stepper(case.model(), spec.recipe, case.micro_batch, CPU)
    first = ranks is None or ranks.rank == 0
    model = whole(stepper, ranks)
    initial = weights_digest(model) if first else ""
    draw = np.random.default_rng(5)
    text = TokenText(*(draw.random(spec.data.vocab_size) < share for share in (0.7, 0.7, 0.2, 0.2, 0.1)))
    shape = SEQUENCES, spec.lengths.text + 1
    chunks = [draw.integers(0, spec.data.vocab_size, shape) for _ in range(5)]
    batches = [validation_batch(spec, chunk, index, text) for index, chunk in enumerate(chunks)]
    before = stepper.evaluate(batches, ranks)
    losses, auxiliary, norms, noise = [], [], [], (0.0, 0.0)
    for step in range(1, steps + 1):
        batch = training_batch(spec, draw.integers(0, spec.data.vocab_size, shape), step, text)
        factor = learning_rate_factor(spec.recipe.schedule, step - 1, STEPS)
        result = stepper.take(batch, factor, measure_noise=step == MEASURED, sharing=ranks)
        losses.append(float(result.loss))
        auxiliary += [float(loss) for loss in result.auxiliary.values()]
        norms.append(float(result.grad_norm))
        if result.noise is not None:
            noise = float(result.noise.square), float(result.noise.trace)
    if ranks is not None:
        ranks.check_same(stepper.own_weights(), stepper.shards)
    after, model = stepper.evaluate(batches, ranks), whole(stepper, ranks)
    return Found(losses, auxiliary, norms, noise, before, after, initial, dict(model.state_dict()))


def _follow(rank: int, count: int, port: int, names: Sequence[str], shards: int, steps: int) -> None:
    torch.set_num_threads(1)
    store = meeting_place("127.0.0.1", port, PATIENT_S, opened=False)
    ranks = Ranks(rank, count, store, CPU, PATIENT_S)
    for name in names:
        taken(cases()[name], ranks, shards, steps)
    ranks.close()


@contextmanager
def leading(count: int, names: Sequence[str], shards: int = 1, steps: int = STEPS) -> Iterator[Ranks]:
    """The first of `count` ranks, whose others take the steps of the named cases in order."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = meeting_place("127.0.0.1", 0, PATIENT_S, opened=True)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_follow, args=(rank, count, store.port, names, shards, steps))
        for rank in range(1, count)
    ]
    for other in others:
        other.start()
    ranks = Ranks(0, count, store, CPU, PATIENT_S)
    try:
        yield ranks
    finally:
        ranks.close()
        for other in others:
            other.kill()  # it has taken all its steps, or an error of this process left it alone
            other.join()
            other.close()
