"""Numbers and units as people write them."""

import pytest

from scaling.analysis.runs.number_text import parse_count, split_header


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.3B", 1.3e9),
        ("410M", 410e6),
        ("8.02T", 8.02e12),
        ("2.00×10¹⁹", 2e19),
        ("2 x 10^19 FLOPs", 2e19),
        ("10**19", 1e19),
        ("1,300,000", 1.3e6),
        ("1 300 000", 1.3e6),
        ("1_300_000", 1.3e6),
        ("70 billion tokens", 70e9),
        ("2 EFLOPs", 2e18),
        ("10 PF-days", 8.64e20),
    ],
)
def test_counts_in_words_are_numbers(text: str, number: float) -> None:
    found = parse_count(text)
    assert found is not None
    assert found[0] == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text", ["1,5", "13,5M", "lots", "", "-1", "70Q", "1,30,000", "M", "10 apples"])
def test_words_that_are_no_counts_are_not_guessed(text: str) -> None:
    assert parse_count(text) is None


@pytest.mark.parametrize(
    ("header", "name", "factor"),
    [
        ("Model Size (B)", "Model Size", 1e9),
        ("params_b", "params", 1e9),
        ("Tokens in billions", "Tokens", 1e9),
        ("Compute (PF-days)", "Compute", 8.64e19),
        ("C (1e20)", "C", 1e20),
        ("Training compute (FLOP)", "Training compute", 1.0),
        ("Params (non-embedding)", "Params (non-embedding)", 1.0),
        ("train_tokens", "train_tokens", 1.0),
        ("n_params", "n_params", 1.0),
    ],
)
def test_a_header_is_parted_from_its_unit(header: str, name: str, factor: float) -> None:
    assert split_header(header)[:2] == (name, pytest.approx(factor))
