"""Numbers in words: a share or a factor that no data can support has no digits."""

import pytest

from scaling.analysis.words import bounded, move_text, percent, share_of, share_text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123, "1.2%"),
        (-0.5, "-50.0%"),
        (10.0, "1000.0%"),
        (10.01, "10.0 times"),
        (-24.0, "-24.0 times"),
        (1000.0, "1000.0 times"),
        (8388680783484.51, "more than 1000 times"),
        (-2e9, "minus more than 1000 times"),
        (float("inf"), "more than 1000 times"),
        (float("nan"), "nan%"),
    ],
)
def test_a_share_is_a_percentage_then_a_multiple_then_a_bound(value: float, said: str) -> None:
    assert share_text(value) == said


def test_a_signed_share_has_its_sign_and_its_digits() -> None:
    assert share_text(0.25, 0, signed=True) == "+25%"
    assert share_text(24, 0, signed=True) == "+24.0 times"
    assert share_text(2e12, 0, signed=True) == "more than 1000 times"
    assert percent(-0.031) == "−3.1%"
    assert percent(8388680783484.51) == "more than 1000 times"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (0.25, "+25.0%"),
        (-0.25, "-25.0%"),
        (8.99, "+899.0%"),
        (24.0, "a factor of 25"),
        (-0.9979, "a factor of 0.0021"),
        (-1.0, "a factor of less than 0.001"),
        (8e12, "a factor of more than 1000"),
    ],
)
def test_a_move_is_a_percentage_up_to_a_factor_of_ten(change: float, said: str) -> None:
    assert move_text(change) == said


def test_a_share_of_a_whole_reads_as_a_sentence() -> None:
    assert share_of(0.0123, "the loss", 2) == "1.23% of the loss"
    assert share_of(45, "the loss") == "45.0 times the loss"
    assert share_of(1e7, "the loss") == "more than 1000 times the loss"


def test_a_factor_ends_at_a_thousand() -> None:
    assert bounded(1.234) == "1.23"
    assert bounded(1e6) == "more than 1000"
