"""The Markov source: its exact entropy against what is measured in its tokens."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.prepare import DataConfig, identify, prepare
from scaling.data.synthetic import Chain, Synthetic, _walk


def source(**changes) -> Synthetic:
    values = {"tokens": 400_000, "order": 1, "zipf_exponent": 1.0, "concentration": 4.0, "seed": 0}
    return Synthetic(**{**values, **changes})


def config(vocab_size: int = 8, **changes) -> DataConfig:
    return DataConfig(source(**changes), "none", vocab_size, 0.25)


def tokens_of(chain: Chain, tokens: int, seed: int) -> np.ndarray:
    return np.concatenate(list(chain.sample(tokens, np.random.default_rng(seed))))


def test_entropies_of_a_chain_worked_by_hand():
    # symbol 0 repeats with 3/4, symbol 1 with 1/2: stationary (2/3, 1/3)
    chain = Chain(rows=np.array([[0.75, 0.25], [0.5, 0.5]]), order=1)
    np.testing.assert_allclose(chain.stationary, [2 / 3, 1 / 3], rtol=1e-14)
    by_hand = -2 / 3 * (0.75 * math.log(0.75) + 0.25 * math.log(0.25)) + math.log(2) / 3
    assert chain.entropies_nats() == pytest.approx((by_hand,), rel=1e-14)


def test_an_order_two_chain_that_ignores_the_older_symbol_has_one_entropy():
    rows = np.array([[0.75, 0.25], [0.5, 0.5]])
    once, twice = Chain(np.tile(rows, (2, 1)), order=2).entropies_nats()
    assert once == pytest.approx(twice, rel=1e-13)
    assert (twice,) == pytest.approx(Chain(rows, order=1).entropies_nats(), rel=1e-13)


@pytest.mark.parametrize(("order", "vocab_size"), [(1, 16), (2, 6), (3, 3)])
def test_entropy_rate_is_the_conditional_entropy_measured_in_the_tokens(order, vocab_size):
    chain = source(order=order).chain(vocab_size)
    tokens = tokens_of(chain, 2_000_000, seed=5)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, order + 1)
    index = windows @ vocab_size ** np.arange(order, -1, -1)
    joint = np.bincount(index, minlength=vocab_size ** (order + 1)).reshape(-1, vocab_size) / len(index)
    measured = -sum(p * math.log(p / row.sum()) for row in joint for p in row if p)
    # two million draws: standard error of the mean log-probability is below 0.001 nats
    assert chain.entropies_nats()[-1] == pytest.approx(measured, abs=0.004)


@pytest.mark.parametrize("order", [1, 2])
def test_the_stationary_distribution_stays_as_it_is(order):
    chain = source(order=order, concentration=0.2).chain(12)
    blocks = (chain.stationary[:, None] * chain.rows).reshape(12, -1).sum(axis=0)
    np.testing.assert_allclose(blocks, chain.stationary, atol=1e-14)
    assert chain.stationary.sum() == pytest.approx(1, abs=1e-13)


def test_every_symbol_may_follow_every_context_so_that_no_chain_gets_stuck():
    chain = source(order=2, concentration=0.1, zipf_exponent=4.0).chain(20)
    assert chain.rows.min() > 0
    assert all(np.isfinite(chain.entropies_nats()))
    np.testing.assert_allclose(chain.rows.sum(axis=1), 1, rtol=1e-12)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 30))
@settings(max_examples=40)
def test_walking_in_segments_is_walking_one_step_at_a_time(seed, steps, segments):
    random = np.random.default_rng(seed)
    chain = source(seed=seed, order=2, concentration=0.5).chain(4)
    cumulative = np.cumsum(chain.rows, axis=1)
    ladder = (cumulative / cumulative[:, -1:] + np.arange(16)[:, None]).ravel()
    draws = random.random((steps, segments))
    context, path = 5, []
    for draw in draws.T.ravel():
        symbol = int((cumulative[context] / cumulative[context, -1] <= draw).sum())
        context = (context * 4 + symbol) % 16
        path.append(context)
    np.testing.assert_array_equal(_walk(ladder, 4, 16, 5, draws).T.ravel(), path)


def test_entropy_falls_with_each_known_symbol_and_sets_the_least_loss(tmp_path):
    settings_ = config(order=3, vocab_size=5)
    manifest = prepare(settings_, identify(settings_), tmp_path, progress=False).manifest
    first, second, rate = manifest.entropies_nats
    assert first > second > rate == manifest.entropy_rate_nats > 0
    assert manifest.least_loss_nats(1) == first
    assert manifest.least_loss_nats(10) == pytest.approx((first + second + 8 * rate) / 10, rel=1e-14)


def test_splits_are_two_chains_of_the_asked_lengths(tmp_path):
    data = prepare(config(), identify(config()), tmp_path, progress=False)
    assert (len(data.train), len(data.val)) == (300_000, 100_000)
    assert data.train.dtype == np.uint16
    assert not np.array_equal(data.train[:1000], data.val[:1000])
    assert data.manifest.train_bytes is None


def test_a_seed_fixes_every_token_and_each_setting_changes_the_fingerprint(tmp_path):
    again = [prepare(config(), identify(config()), tmp_path / name, progress=False).train for name in "ab"]
    np.testing.assert_array_equal(*again)
    changes = [{}, {"tokens": 5}, {"order": 2}, {"zipf_exponent": 0.5}, {"concentration": 5.0}, {"seed": 1}]
    assert len({identify(config(**change)).fingerprint for change in changes}) == len(changes)
    assert identify(config(concentration=4)) == identify(config(concentration=4.0))


def test_symbols_keep_their_long_run_shares_across_blocks():
    chain = source().chain(8)
    whole = tokens_of(chain, 5_000_000, seed=0)
    assert len(whole) == 5_000_000
    counts = np.bincount(whole, minlength=8) / len(whole)
    np.testing.assert_allclose(counts, chain.stationary, atol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 0}, "order must lie in 1 to 8, got 0"),
        ({"tokens": 1}, "tokens must lie in 2 to"),
        ({"tokens": 2e7}, "tokens must be a whole number, got 20000000.0"),
        ({"concentration": 0.0}, "concentration must lie in 0.1 to"),
        ({"concentration": math.nan}, "concentration must lie in 0.1 to"),
        ({"zipf_exponent": -1.0}, "zipf_exponent must lie in 0 to 4, got -1.0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        source(**change)


def test_a_table_too_large_for_memory_is_refused_with_the_largest_that_fits():
    with pytest.raises(ValueError, match=r"1,000,000,000 probabilities, above .* vocab_size up to 203"):
        source(order=2).chain(1000)
    source(order=2).chain(203)


def test_write_reports_every_token():
    done: list[int] = []
    spec = identify(config(tokens=3000))
    source(tokens=3000).write(io.BytesIO(), io.BytesIO(), spec, None, done.append)
    assert sum(done) == source(tokens=3000).content_tokens()
