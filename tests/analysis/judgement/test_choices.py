"""How much of the answer is choice: single runs, and every combination of defensible analyses."""

from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.fitting.fit import Fit, Loss, fit
from scaling.analysis.judgement.choices import answer, influence, multiverse, spread
from scaling.analysis.laws import LAWS
from scaling.analysis.laws.cost import Cost
from scaling.analysis.laws.size_and_data import Chinchilla
from scaling.analysis.runs.observations import Observations, load
from tests.analysis.simulated import TRUTH, observe, table, write_study

TARGET = 1e17
ND = ("N", "D")


def fitted_to(observations: Observations, loss: Loss | None = None) -> Fit:
    return fit(LAWS["chinchilla"], observations.variables(ND), observations.column("loss"), loss=loss or Loss())


def test_the_answer_is_the_laws_optimum_and_its_slope() -> None:
    found = answer(TRUTH, TARGET, Cost())
    best = TRUTH.optimum(TARGET)
    assert found.params == pytest.approx(float(best.N))
    assert found.tokens == pytest.approx(float(best.D))
    assert found.loss_nats == pytest.approx(float(best.loss))
    assert found.exponent == pytest.approx(float(TRUTH.derived["a"]), abs=1e-6)


@pytest.mark.parametrize("loss", [Loss(), Loss("mse")])
def test_influence_equals_refitting_without_the_run(tmp_path: Path, loss: Loss) -> None:
    observations = observe(table(noise_nats=0.02), tmp_path)
    fitted = fitted_to(observations, loss)
    rows = influence(observations, fitted, ND, TARGET)
    assert len(rows) == 28
    whole = answer(fitted.law, TARGET, Cost()).params
    for row in (rows[0], rows[-1]):
        without = observations.select((observations.table["run_id"] != row["run"]).to_numpy())
        again = answer(fitted_to(without, loss).law, TARGET, Cost()).params
        assert row["params"] == pytest.approx(again, rel=1e-5)
        assert row["change"] == pytest.approx(again / whole - 1, abs=1e-5)
    changes = [abs(row["change"]) for row in rows]
    assert changes == sorted(changes, reverse=True)


def test_the_run_that_was_spoiled_is_the_most_influential(tmp_path: Path) -> None:
    frame = table(noise_nats=0.002)
    frame.loc[27, "loss"] += 0.3
    observations = observe(frame, tmp_path)
    rows = influence(observations, fitted_to(observations, Loss("mse")), ND, TARGET)
    assert rows[0]["run"] == "row-28"
    assert abs(rows[0]["change"]) > 5 * abs(rows[1]["change"])


def test_on_exact_data_no_choice_changes_the_answer(tmp_path: Path) -> None:
    observations = observe(table(), tmp_path)
    rows = multiverse(observations, fitted_to(observations), ND, TARGET)
    truth = float(TRUTH.optimum(TARGET).N)
    assert len(rows) >= 5 * 2
    for row in rows:
        assert row["params"] == pytest.approx(truth, rel=1e-3), row


def test_the_analysis_own_choice_comes_first(tmp_path: Path) -> None:
    observations = observe(table(noise_nats=0.02), tmp_path)
    fitted = fitted_to(observations, Loss("mse"))
    rows = multiverse(observations, fitted, ND, TARGET)
    assert rows[0]["loss"] == "mse on log loss"
    assert (rows[0]["counting"], rows[0]["outliers"], rows[0]["budgets"]) == ("counts as chosen", "kept", "all")
    assert rows[0]["params"] == pytest.approx(answer(fitted.law, TARGET, Cost()).params)
    assert len({tuple(row[c] for c in ("counting", "loss", "outliers", "budgets")) for row in rows}) == len(rows)


def test_every_counting_the_source_knows_is_tried(tmp_path: Path) -> None:
    observations = load(write_study(tmp_path / "study", points=4))
    rows = multiverse(observations, fitted_to(observations), ND, TARGET)
    assert {row["counting"] for row in rows} == {
        "counts as chosen",
        "parameters with embeddings",
        "non-embedding parameters and head",
        "C = 6ND",
    }
    by_choice = spread(rows)["by_choice"]
    assert by_choice["counting"]["options"] == 4
    assert by_choice["counting"]["ratio"] > 1.001


def test_outliers_are_dropped_where_there_are_some(tmp_path: Path) -> None:
    frame = table(noise_nats=0.002)
    frame.loc[27, "loss"] += 0.5
    observations = observe(frame, tmp_path)
    rows = multiverse(observations, fitted_to(observations), ND, TARGET)
    dropped = [row for row in rows if row["outliers"] != "kept" and row["budgets"] == "all"]
    assert {row["n"] for row in dropped} == {27}
    squares = {
        row["outliers"]: row["params"] for row in rows if row["loss"] == "mse on log loss" and row["budgets"] == "all"
    }
    truth = float(TRUTH.optimum(TARGET).N)
    off = {rule: abs(np.log(params / truth)) for rule, params in squares.items()}
    assert off["beyond 4 robust sd dropped"] < off["kept"] / 3


def test_a_combination_that_cannot_be_fitted_stays_with_its_reason(tmp_path: Path) -> None:
    observations = observe(table(budgets=(1e14, 1e15)), tmp_path)
    rows = multiverse(observations, fitted_to(observations), ND, TARGET)
    refused = [row for row in rows if row["budgets"] == "smallest dropped"]
    assert refused
    assert all(row["status"] == "refused" and row["why"] and row["params"] is None for row in refused)
    found = spread(rows)
    assert found["answered"] == found["analyses"] - len(refused)


def test_the_spread_is_the_range_and_the_ratio_of_medians() -> None:
    rows = [
        {"counting": "a", "loss": loss, "outliers": "kept", "budgets": "all", "params": params, "tokens": 1 / params}
        for loss, params in (("x", 1.0), ("x", 2.0), ("x", 3.0), ("y", 8.0))
    ]
    found = spread(rows)
    assert found["params"] == [1.0, 8.0]
    assert found["by_choice"]["loss"] == {"options": 2, "ratio": 4.0, "tokens_ratio": 4.0}
    assert found["by_choice"]["counting"]["ratio"] == 1.0


def test_a_law_without_interior_optimum_is_refused_by_name() -> None:
    flat = Chinchilla(E=2.0, A=0.0, B=100.0, alpha=0.3, beta=0.3)
    with pytest.raises(ValueError, match="optimum"):
        answer(flat, TARGET, Cost())
