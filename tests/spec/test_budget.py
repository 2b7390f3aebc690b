"""Budgets turned into whole steps, and recipes into numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.config.config import compose, recipe_values, to_run, typed
from scaling.shapes import flops
from scaling.shapes.families import DecoderShape
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.budget import TOLERANCE, Budget, Scale, allocate
from scaling.spec.recipe import Length, RecipeRules, ScaleLaw, ScheduleRule, Tuned, resolve
from tests.examples import TINY


def constant(value: float) -> ScaleLaw:
    return ScaleLaw(value, params=0, tokens=0, flops=0, at_least=None, at_most=None)


RULES = replace(
    typed(compose([]).recipe, RecipeRules),
    learning_rate=constant(1e-3),
    batch_tokens=constant(256),
    schedule=ScheduleRule("wsd", Length(None, 0.1, None), Length(None, 0.2, None), "1-sqrt", 0.0),
)


@given(
    budget=st.floats(1e8, 1e20),
    batch=st.floats(1, 1e6),
    width=st.sampled_from([8, 24, 64, 512]),
    context=st.sampled_from([16, 128, 1024]),
)
def test_realised_compute_is_the_nearest_to_the_budget_in_whole_steps(
    budget: float, batch: float, width: int, context: int
) -> None:
    shape: DecoderShape = replace(TINY, d_model=width, n_heads=4, n_kv_heads=4, context=context)
    got = allocate(shape, Budget(budget, None, None, 0.1, 20), lambda scale: batch)
    assert got.realised_flops == int(flops.exact(shape)) * got.train_tokens
    step_flops = got.realised_flops // got.steps
    rounding = budget * 2**-50  # of a float64 budget this large
    assert abs(got.realised_flops - budget) <= step_flops / 2 + rounding or got.steps == 1
    if got.steps >= 1 / TOLERANCE:
        assert abs(got.off_by) <= TOLERANCE


def test_a_token_budget_buys_these_tokens() -> None:
    got = allocate(TINY, Budget(None, 16_000, None, 0.1, 20), lambda scale: 160)
    assert (got.batch_sequences, got.steps, got.train_tokens) == (10, 100, 16_000)
    assert got.requested_flops == 16_000 * flops.exact(TINY)


def test_a_budget_pays_for_the_optimizer_in_steps() -> None:
    budget = Budget(1e10, None, None, 0.1, 20)
    without, paid = (allocate(TINY, budget, lambda scale: 64, cost) for cost in (0, flops.muon_flops(TINY)))
    assert paid.steps < without.steps
    assert paid.realised_flops == pytest.approx(1e10, rel=1e-3)
    per_step = 4 * flops.train_flops_per_sequence(TINY) + flops.muon_flops(TINY)
    assert paid.realised_flops == paid.steps * per_step


def test_a_token_budget_asks_for_the_optimizers_flops_too() -> None:
    got = allocate(TINY, Budget(None, 16_000, None, 0.1, 20), lambda scale: 160, flops.muon_flops(TINY))
    assert got.requested_flops == got.realised_flops == 16_000 * flops.exact(TINY) + 100 * flops.muon_flops(TINY)


def test_runs_of_one_trunk_take_the_recipe_of_its_reference_whatever_their_length() -> None:
    short, long = (
        allocate(TINY, Budget(budget, None, None, 0.1, 20), lambda scale: scale.tokens / 100, reference_flops=1e10)
        for budget in (1e9, 1e11)
    )
    assert short.scale == long.scale == allocate(TINY, Budget(1e10, None, None, 0.1, 20), lambda scale: 160).scale
    assert short.scale.tokens * flops.exact(TINY) == short.scale.flops == pytest.approx(1e10)
    assert short.batch_sequences == long.batch_sequences
    assert short.realised_flops == pytest.approx(1e9, rel=0.1)
    assert long.realised_flops == pytest.approx(1e11, rel=0.1)


def test_the_smallest_budget_buys_one_step_of_one_sequence() -> None:
    got = allocate(TINY, Budget(0.5, None, None, 0.1, 20), lambda scale: 0.1)
    assert (got.steps, got.batch_sequences) == (1, 1)


@pytest.mark.parametrize("values", [(1e9, 1e6), (None, None)])
def test_flops_and_tokens_exclude_each_other(values: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="set exactly one"):
        Budget(*values, None, 0.1, 20)


@pytest.mark.parametrize("flops_budget", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_must_be_positive_and_finite(flops_budget: float) -> None:
    with pytest.raises(ValueError, match=r"budget\.flops=.*positive and finite"):
        Budget(flops_budget, None, None, 0.1, 20)


def test_recipe_laws_are_power_laws_of_scale() -> None:
    # Li et al. 2025 (Step Law): learning rate 1.79 N^-0.713 D^0.307.
    law = ScaleLaw(1.79, params=-0.713, tokens=0.307, flops=0, at_least=None, at_most=None)
    assert law(Scale(1e9, 1e11, 6e20)) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert replace(law, at_most=1e-4)(Scale(1e9, 1e11, 6e20)) == 1e-4
    assert replace(law, at_least=1.0)(Scale(1e9, 1e11, 6e20)) == 1.0


def test_a_run_outside_the_tuned_ranges_is_named_with_its_factor() -> None:
    tuned = Tuned(params=[1e6, 1e8], tokens=[1e8, 1e10], learning_rate=[1e-3, 1e-2], batch_tokens=[1e4, 1e5])
    assert tuned.beyond(Scale(params=2e8, tokens=1e9, flops=1.2e18)) == {"params": 2.0}
    assert tuned.beyond(Scale(params=2.5e5, tokens=2.5e7, flops=4e13)) == {"params": 4.0, "tokens": 4.0}
    assert tuned.beyond(Scale(params=1.04e8, tokens=0.97e8, flops=6e16)) == {}  # close enough


def test_a_tuned_range_has_a_lowest_and_a_highest_value() -> None:
    for ends in ([1e8, 1e6], [0.0, 1e6], [1e6]):
        with pytest.raises(ValueError, match=r"recipe\.tuned\.tokens=.*: give the lowest and the highest value"):
            Tuned(params=[1e6, 1e6], tokens=ends, learning_rate=[1e-3, 1e-2], batch_tokens=[1e4, 1e5])


def law(recipe: str, name: str) -> ScaleLaw:
    return ScaleLaw(**recipe_values(compose([f"recipe={recipe}"]))[name])


@pytest.mark.parametrize(
    ("params", "rate", "sequences"),  # as tuned in the authors' make_paper.ipynb; params with the head
    [
        (5_173_248, 1.30e-2, 20),
        (28_672_000, 7.40e-3, 64),
        (108_462_080, 4.70e-3, 160),
        (455_311_360, 3.00e-3, 448),
        (901_726_208, 2.40e-3, 640),
    ],
)
def test_porian_gives_what_the_paper_trained_with(params: int, rate: float, sequences: int) -> None:
    tokens = 20 * params
    scale = Scale(0.1 * params, tokens, 6 * params * tokens)
    assert law("porian", "learning_rate")(scale) == pytest.approx(rate, rel=0.04)  # its table has two digits
    assert law("porian", "batch_tokens")(scale) == pytest.approx(2048 * sequences, rel=0.07)


def test_porian_counts_the_papers_models_as_it_does() -> None:
    shape = ["model=llama", "model.d_model=640", "model.n_layers=15", "model.n_heads=4", "model.ff_multiple=256"]
    size = ["model.vocab_size=50432", "model.context=256", "budget.flops=null", "budget.tokens=2169241600"]
    run = to_run(compose(["recipe=porian", "data=synthetic", "data.source.tokens=10000", *shape, *size]))
    norms = 31 * 640  # which the paper leaves out
    assert parameter_counts(run.spec.model)["non_embedding_head"] == 108_462_080 + norms
    recipe = run.spec.recipe
    assert recipe.optimizer.learning_rate == pytest.approx(4.70e-3, rel=0.02)
    assert recipe.batch_sequences * 256 == pytest.approx(160 * 2048, rel=0.04)
    assert recipe.schedule.cooldown_steps == 0
    assert recipe.schedule.warmup_steps * recipe.batch_sequences * 256 == pytest.approx(108_462_080, rel=0.01)


@pytest.mark.parametrize(("tokens", "sequences"), [(3e9, 130.45), (40e9, 0.721e6 / 2048)])
def test_power_lines_batch_follows_the_tokens_alone(tokens: float, sequences: float) -> None:
    batches = {law("power_lines", "batch_tokens")(Scale(n, tokens, 6 * n * tokens)) for n in (1e8, 3e9)}
    assert len(batches) == 1
    assert batches.pop() == pytest.approx(2048 * sequences, rel=1e-3)


@pytest.mark.parametrize(
    ("params", "ratio", "timescale"),
    [(610e6, 20, 0.21), (111e6, 200, 1.084 * 200**-0.527), (3.3e9, 30, 1.084 * 30**-0.527)],  # 0.21 as found there
)
def test_power_lines_decay_keeps_the_timescale(params: float, ratio: float, timescale: float) -> None:
    scale = Scale(params, ratio * params, 6 * params * ratio * params)
    rate, batch, decay = (law("power_lines", name)(scale) for name in ("learning_rate", "batch_tokens", "weight_decay"))
    assert batch / (rate * decay * scale.tokens) == pytest.approx(timescale, rel=0.07 if ratio == 20 else 1e-3)


def test_momentum_half_life_in_tokens_follows_the_batch() -> None:
    rules = replace(RULES, beta2=None, beta2_half_life_tokens=2560)
    allocation = allocate(TINY, Budget(None, 25_600, None, 0.1, 20), rules.batch_tokens)
    assert resolve(rules, TINY, allocation).optimizer.beta2 ** (2560 / 256) == pytest.approx(0.5)


def test_lengths_in_tokens_and_fractions_agree() -> None:
    allocation = allocate(TINY, Budget(None, 25_600, None, 0.1, 20), RULES.batch_tokens)
    assert Length(None, 0.25, None).steps(allocation) == Length(6_400, None, None).steps(allocation) == 25


def test_of_several_lengths_the_shortest_holds() -> None:
    allocation = allocate(TINY, Budget(None, 25_600_000, None, 0.1, 20), RULES.batch_tokens)
    assert Length(None, 0.05, 1.0).steps(allocation) == round(allocation.scale.params / 256) == 53
    assert Length(None, 2e-4, 1.0).steps(allocation) == Length(5_120, None, 1.0).steps(allocation) == 20


def test_a_length_beyond_the_run_is_all_of_the_run() -> None:
    allocation = allocate(TINY, Budget(None, 25_600, None, 0.1, 20), RULES.batch_tokens)
    assert Length(51_200, None, None).steps(allocation) == allocation.steps == 100


def test_a_cosine_has_no_cooldown_of_its_own() -> None:
    schedule = replace(RULES.schedule, kind="cosine", cooldown_shape="cosine")
    allocation = allocate(TINY, Budget(None, 25_600, None, 0.1, 20), RULES.batch_tokens)
    assert resolve(RULES, TINY, allocation).schedule.cooldown_steps == 20
    assert resolve(replace(RULES, schedule=schedule), TINY, allocation).schedule.cooldown_steps == 0


def test_warmup_and_cooldown_must_fit_into_the_run() -> None:
    schedule = replace(RULES.schedule, warmup=Length(20_000, None, None), cooldown=Length(None, 0.5, None))
    allocation = allocate(TINY, Budget(None, 25_600, None, 0.1, 20), RULES.batch_tokens)
    with pytest.raises(ValueError, match="78 warm-up and 50 cooldown steps do not fit into a run of 100"):
        resolve(replace(RULES, schedule=schedule), TINY, allocation)


def test_settings_that_exclude_each_other_are_named() -> None:
    with pytest.raises(ValueError, match=r"recipe\.beta2=0\.99, recipe\.beta2_half_life_tokens=1: set exactly one"):
        replace(RULES, beta2_half_life_tokens=1)
    with pytest.raises(ValueError, match="'linear' does not go with recipe.schedule.kind=cosine: choose from cosine"):
        replace(RULES, schedule=replace(RULES.schedule, kind="cosine", cooldown_shape="linear"))
    with pytest.raises(ValueError, match=r"recipe\.precision='fp16': choose from fp32, bf16"):
        replace(RULES, precision="fp16")
    with pytest.raises(ValueError, match="a length takes at least one"):
        Length(None, None, None)


def test_settings_out_of_range_are_named() -> None:
    assert Length(None, 1.0, None).fraction == 1
    for fraction in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"fraction={fraction}: must be between 0 and 1"):
            Length(None, fraction, None)
    assert replace(RULES, reference_flops=1e15).reference_flops == 1e15
    for flops_asked in (0.0, float("inf")):
        with pytest.raises(ValueError, match=r"recipe\.reference_flops=.*: must be positive and finite"):
            replace(RULES, reference_flops=flops_asked)
    with pytest.raises(ValueError, match="unknown recipe.parametrization 'mop': did you mean 'mup'"):
        replace(RULES, parametrization="mop")
