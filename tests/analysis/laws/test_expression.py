"""Formulas in text: their values, the refusal of all that is not the language, and slips named with their remedy."""

import numpy as np
import pytest

from scaling.analysis.laws import jet
from scaling.analysis.laws.expression import parse, value

COLUMNS = ("P", "V", "vocab_size", "recipe.lr")
X = {"P": np.array([2.0, 5.0]), "V": np.array([3.0, 7.0]), "vocab_size": np.array([1.0, 2.0]), "recipe.lr": 0.5}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 2*P^-b", lambda a, b, P, V: a + 2 * P**-b),
        ("a - P - V - 1", lambda a, b, P, V: a - P - V - 1),
        ("a/P/V", lambda a, b, P, V: a / P / V),
        ("-P^2*a", lambda a, b, P, V: -(P**2) * a),
        ("a*P^b^2", lambda a, b, P, V: a * P ** (b**2)),
        ("a*P**b", lambda a, b, P, V: a * P**b),
        ("(a - P)^3", lambda a, b, P, V: (a - P) ** 3),
        ("(a - P)^-2", lambda a, b, P, V: (a - P) ** -2.0),
        ("a*exp(-b*P) + log(V)", lambda a, b, P, V: a * np.exp(-b * P) + np.log(V)),
        ("a*sqrt(P*V)", lambda a, b, P, V: a * np.sqrt(P * V)),
        ("a*min(P, b*V) + max(P, V)", lambda a, b, P, V: a * np.minimum(P, b * V) + np.maximum(P, V)),
        ("qmean(a*P, V, b)", lambda a, b, P, V: ((a * P) ** b + V**b) ** (1 / b)),
        ("a*valley(P, b)", lambda a, b, P, V: a * np.log(P / b) ** 2),
        ("a*effective(V, P, b)", lambda a, b, P, V: a * P * (1 + b * (1 - np.exp(-(V / P - 1) / b)))),
        ("a*`recipe.lr` + b*recipe.lr", lambda a, b, P, V: (a + b) * 0.5),
    ],
)
def test_a_formula_has_the_value_of_its_numpy_and_exact_derivatives(text, expected) -> None:  # type: ignore[no-untyped-def]
    p = {"a": 1.7, "b": 0.6}
    tree = parse(text, COLUMNS)
    np.testing.assert_allclose(value(tree, X, p), expected(**p, P=X["P"], V=X["V"]), rtol=1e-14)
    exact = value(tree, X, {"a": jet.variable(0, 1.7), "b": jet.variable(1, 0.6)})
    for k, name in enumerate(p):
        moved = [value(tree, X, {**p, name: p[name] + step}) for step in (1e-6, -1e-6)]
        slope = np.broadcast_to(exact.first.get(k, 0.0), (2,))
        np.testing.assert_allclose(slope, np.broadcast_to((moved[0] - moved[1]) / 2e-6, (2,)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("E + A*Q^-a", "'Q' being none; the columns are P, V, vocab_size, recipe.lr"),
        ("E + A*p^-a", "did you mean 'P'"),
        ("E + A*vocab_siz + P", "'vocab_siz' is no column.*did you mean 'vocab_size'"),
        ("E + log(q)*P", "log of q holds no column"),
        ("E + A", "holds no column"),
        ("E + A*lgo(P)", "unknown function 'lgo': did you mean log"),
        ("E + A(P)", "unknown function 'A'.*write a product with"),
        ("E + exp*P", "exp is a function"),
        ("E + min(P)", "min takes 2 operands, got 1"),
        ("mixture(P, W)", "'W' is none"),
        ("E + other.lr*P", "'other.lr' is no column"),
        ("E + A P", "at 'P'.*a product is written A[*]P"),
        ("E + (A*P", "cannot be read"),
        ("E + lambda*P", "write lam"),
        ("E + P[0]", "no part of the language"),
        ("E + 'x'*P", "no part of the language"),
        ("E + True*P", "no part of the language"),
        ("E + (P > 1)", "no part of the language"),
        ("E + A*P if E else 1", "no part of the language"),
        ("(E := 3)*P", "no part of the language"),
        ("__import__('os').system('true')*P", "no part of the language"),
        ("E + P*" + "9" * 400, "beyond all floats"),
        ("E + " + "(" * 300 + "P" + ")" * 300, "too many brackets|nests more|cannot be read"),
        ("E + P" + "+P" * 4000, "characters"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_token(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse(text, COLUMNS)
    assert "\n" not in str(caught.value)


def test_whole_powers_take_bases_of_either_sign_as_jets() -> None:
    tree = parse("(P - m)^2", COLUMNS)
    found = value(tree, {"P": np.array([1.0])}, {"m": jet.variable(0, 3.0)})
    assert found.value == 4.0
    assert found.first[0] == pytest.approx(4.0)
