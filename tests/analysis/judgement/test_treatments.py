"""Treatments of one measure: each by its own law, and compared by what each needs for the same loss."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.figures import families, treatments
from scaling.analysis.figures.chart import Absent, Chart, Line, Points, limits
from scaling.analysis.judgement.treatments import compare, mean_difference, paired_cells
from scaling.analysis.laws.size_and_data import Chinchilla
from scaling.analysis.report.families import differences, write_families
from scaling.analysis.results.document import read
from scaling.analysis.results.parts import analyse_parts, results_files, write_parts
from scaling.analysis.runs.comparable import treated_parts
from scaling.cli import main
from tests.analysis import simulated
from tests.analysis.conformance import analyse
from tests.analysis.report.test_page import Page

Results = dict[str, Any]
TIMES = 1.5  # the first law's tokens are worth so many of the second's: so is its compute, exactly
MUON = replace(simulated.TRUTH, B=simulated.TRUTH.B * TIMES**-simulated.TRUTH.beta)
STEEP = Chinchilla(E=1.9, A=2000.0, B=300.0, alpha=0.5, beta=0.3)


def table(
    second: Chinchilla, *, noise: float = 0.0, seed: int = 0, spreads: Sequence[float] = simulated.SPREADS
) -> Any:
    """AdamW by the truth and Muon by `second` at the same sizes and budgets, in a shuffled table of many rates."""
    first = simulated.table(spreads=spreads).assign(**{"recipe.optimizer.kind": "adamw"})
    other = first.assign(loss=np.array(second(N=first["params"].to_numpy(), D=first["tokens"].to_numpy())))
    both = pd.concat([first, other.assign(**{"recipe.optimizer.kind": "muon"})], ignore_index=True)
    rng = np.random.default_rng(seed)
    both["loss"] += noise * rng.standard_normal(len(both))
    both["recipe.optimizer.learning_rate"] = rng.uniform(1e-3, 1e-2, len(both))
    return both.sample(frac=1, random_state=seed)


def parts_of(frame: pd.DataFrame, folder: Path, bootstrap: int = 40) -> dict[str, Results]:
    analysed, _ = analyse_parts(simulated.observe(frame, folder), bootstrap=bootstrap, holdout=None)
    return analysed


def pair_of(parts: dict[str, Results]) -> Results:
    found: Results = next(iter(parts.values()))["comparison"]["pairs"][0]
    return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    return parts_of(table(MUON, noise=0.002), tmp_path_factory.mktemp("table"))


def test_each_part_recovers_its_own_exponent_and_one_curve_through_both_recovers_neither(tmp_path: Path) -> None:
    frame = table(STEEP)
    found = parts_of(frame, tmp_path, bootstrap=0)
    mixed = analyse(simulated.observe(frame.drop(columns="recipe.optimizer.kind"), tmp_path), bootstrap=0)
    exponents = {name: one["fits"][0]["derived"]["a"] for name, one in found.items()}
    assert exponents == pytest.approx({"adamw": 0.37 / 0.72, "muon": 0.3 / 0.8}, abs=1e-4)
    assert all(abs(mixed["fits"][0]["derived"]["a"] - own) > 0.03 for own in exponents.values())


def test_the_compute_multiplier_is_recovered_with_an_interval_that_leaves_one_out(parts: dict[str, Results]) -> None:
    found = pair_of(parts)["multiplier"]
    assert (found["better"], found["worse"], found["told"]) == ("muon", "adamw", True)
    assert found["at_flops"] == pytest.approx(np.sqrt(1e14 * 3e15))
    assert found["value"] == pytest.approx(TIMES, rel=0.03)
    assert TIMES / 1.05 < found["low"] < found["value"] < found["high"] < TIMES * 1.05
    assert found["loss"] == pytest.approx(float(MUON.optimum(np.sqrt(1e14 * 3e15 / TIMES)).loss), rel=0.003)


def test_equal_treatments_are_not_told_apart(tmp_path: Path) -> None:
    pair = pair_of(parts_of(table(simulated.TRUTH, noise=0.01, seed=1), tmp_path))
    found = pair["multiplier"]
    assert found["low"] < 1 < found["high"]
    assert not found["told"]
    assert pair["verdict"].count("the runs do not determine") == 1
    assert pair["difference"]["low"] < 0 < pair["difference"]["high"]
    assert "an interval that holds 0" in pair["verdict"]


def test_both_are_compared_by_one_curve_model_whichever_each_quotes(tmp_path: Path) -> None:
    observed = simulated.observe(table(MUON, noise=0.002), tmp_path)
    groups = treated_parts(observed)
    analysed = {name: analyse(part, bootstrap=40, holdout=None) for name, part in groups.items()}
    before = compare(groups, analysed)
    analysed["muon"]["isoflop"]["used"] = "surface"
    analysed["adamw"]["isoflop"]["used"] = "parabola"
    assert before is not None
    assert compare(groups, analysed) == before
    assert {one["law"]["exponent"] for one in before["treatments"].values()} == {
        one["isoflop"]["laws"]["parabola"]["loss"]["exponent"] for one in analysed.values()
    }


def test_differences_are_paired_at_equal_shape_and_budget(tmp_path: Path) -> None:
    frame = table(MUON)
    lost = frame.index[(frame["recipe.optimizer.kind"] == "muon") & (frame["budget"] == 1e15)][:2]
    frame = frame.drop(index=lost)
    observed = simulated.observe(frame, tmp_path)
    first, second = treated_parts(observed).values()
    cells = paired_cells(first, second, simulated.BUDGETS)
    sizes = {k: frame[frame["recipe.optimizer.kind"] == k].set_index(["budget", "params"]) for k in ("adamw", "muon")}
    expected = (sizes["muon"]["loss"] - sizes["adamw"]["loss"]).dropna()
    assert len(cells) == len(expected) == 26
    assert sorted(cells["difference"]) == pytest.approx(sorted(expected))
    found = mean_difference(cells["difference"].to_numpy(), 0.95)
    assert (found["cells"], found["lower"]) == (26, 26)
    assert found["mean_nats"] == pytest.approx(expected.mean())
    assert found["se_nats"] == pytest.approx(expected.std() / np.sqrt(26))
    assert found["high"] - found["mean_nats"] == pytest.approx(2.0595 * found["se_nats"], rel=1e-4)


def test_shapes_are_told_by_their_dimensions_where_the_parameters_differ(tmp_path: Path) -> None:
    frame = table(MUON)
    frame["model.d_model"] = (frame["params"] // 1000).astype(int)
    frame["model.n_layers"] = frame["model.n_heads"] = 2
    frame.loc[frame["recipe.optimizer.kind"] == "muon", "params"] *= 1.01  # a gated MLP's, say
    observed = simulated.observe(frame, tmp_path)
    first, second = treated_parts(observed).values()
    assert len(paired_cells(first, second, simulated.BUDGETS)) == 28


def test_three_shapes_a_budget_leave_no_interval_and_the_verdict_says_so(tmp_path: Path) -> None:
    pair = pair_of(parts_of(table(MUON, spreads=(0.4, 1.0, 2.5)), tmp_path))
    assert pair["multiplier"]["low"] is None
    assert not pair["multiplier"]["told"]
    assert "without an interval" in pair["verdict"]
    assert "every parabola passes through all its points" in pair["verdict"]


def test_minima_on_the_edge_leave_the_multiplier_untold_with_the_reason(tmp_path: Path) -> None:
    pair = pair_of(parts_of(table(MUON, spreads=(1.6, 2.5, 4.0, 6.0)), tmp_path, bootstrap=0))
    assert "0 of 4 budgets have a trusted minimum" in pair["multiplier"]["why"]
    assert f"is not determined ({pair['multiplier']['why']})" in pair["verdict"]
    assert pair["difference"]["lower"] == 16


def test_laws_through_different_budgets_are_compared_only_above_floors(tmp_path: Path) -> None:
    frame = table(MUON, noise=0.002)
    fewer = frame[(frame["recipe.optimizer.kind"] == "adamw") | (frame["budget"] < 3e15)]
    pair = pair_of(parts_of(fewer, tmp_path))
    assert pair["multiplier"]["why"].startswith("their laws go through trusted minima of different budgets")
    assert "as muon's does" in pair["multiplier"]["why"]
    assert pair["difference"]["cells"] == 21


def test_a_part_that_cannot_be_analysed_is_said_and_leaves_the_others_be(tmp_path: Path) -> None:
    frame = table(MUON)
    lone = frame[(frame["recipe.optimizer.kind"] == "adamw") | (frame.index == frame.index.max())]
    found, said = analyse_parts(simulated.observe(lone, tmp_path), bootstrap=0, holdout=None)
    assert list(found) == ["adamw"]
    assert found["adamw"]["comparison"] is None
    assert said[0].startswith("fitted apart, each by its own law: adamw (28 runs), muon (1 runs)")
    assert said[1].startswith("muon was not analysed: ")


def test_the_figure_has_a_line_a_treatment_and_every_cell(parts: dict[str, Results]) -> None:
    chart = treatments.treatments(parts["muon"])
    assert isinstance(chart, Chart)
    losses, cells = chart.panels
    assert losses is not None
    assert cells is not None
    points = [mark for mark in losses.marks if isinstance(mark, Points)]
    assert [mark.label for mark in points] == ["adamw", "muon"]
    assert len([mark for mark in losses.marks if isinstance(mark, Line)]) == 2
    for mark, results in zip(points, parts.values(), strict=True):
        minima = [budget["estimates"]["parabola"]["loss"]["value"] for budget in results["isoflop"]["budgets"]]
        assert mark.y.tolist() == minima
    assert sum(len(mark.x) for mark in cells.marks if isinstance(mark, Points)) == 28
    assert pair_of(parts)["verdict"] in chart.caption
    assert isinstance(treatments.treatments({**parts["muon"], "comparison": None}), Absent)


def test_the_page_leads_with_the_verdict_and_puts_treatments_on_one_loss_axis(
    parts: dict[str, Results], tmp_path: Path
) -> None:
    pages = {name: tmp_path / name / "report.html" for name in parts}
    text = Page(write_families(parts, pages, tmp_path).read_text()).text
    verdict = pair_of(parts)["verdict"]
    assert re.match(r"At equal shape and budget muon's loss is 0\.1\d ± 0\.01 nats below adamw's", verdict)
    assert text.index(verdict) < text.index("Treatments at equal compute", text.index(verdict))
    assert "says nothing against another" not in text
    assert (tmp_path / "figures" / "treatments.png").stat().st_size > 1000
    chart = families.curves(parts)
    assert isinstance(chart, Chart)
    first, second = (limits(panel, "y") for panel in chart.panels if panel is not None)
    losses = [loss for one in parts.values() for loss in one["observations"]["loss"]]
    assert first == second
    assert first[0] < min(losses) < max(losses) < first[1]
    rows = differences(parts["adamw"])[0].rows
    assert [row[3].words for row in rows] == ["7 of 7"] * 4 + ["28 of 28"]
    assert rows[-1][4].value == pair_of(parts)["difference"]["mean_nats"]


def test_fit_and_predict_keep_treatments_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "runs.csv", tmp_path / "out"
    table(MUON).to_csv(path, index=False)
    out.mkdir()
    (out / "results.json").write_text("{}")  # of an analysis that mixed them
    assert main(["fit", str(path), "--out", str(out), "--bootstrap", "0"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].endswith("adamw (28 runs), muon (28 runs), which differ in recipe.optimizer.kind")
    assert "muon's loss is" in said
    assert results_files(out / "results.json") == {name: out / name / "results.json" for name in ("adamw", "muon")}
    found = [read(one)["comparison"] for one in results_files(out / "results.json").values()]
    assert found[0] == found[1]
    assert found[0]["settings"] == ["recipe.optimizer.kind"]
    assert main(["predict", str(out / "results.json"), "--flops", "1e16"]) == 0
    answers = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]  # without members
    assert [line.split(":")[0] for line in answers] == ["adamw", "muon"]
    assert main(["predict", str(out / "results.json"), "--flops", "1e16", "--json"]) == 2
    assert main(["fit", str(path), "--json"]) == 2
    assert "choose with --where" in capsys.readouterr().err


def test_a_single_parts_results_lie_where_they_did(parts: dict[str, Results], tmp_path: Path) -> None:
    alone = {"": {**parts["adamw"], "comparison": None}}
    assert write_parts(alone, tmp_path) == {"": tmp_path / "results.json"}
    assert results_files(tmp_path / "results.json") == {"": tmp_path / "results.json"}
