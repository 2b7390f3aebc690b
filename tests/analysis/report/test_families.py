"""Groups whose losses measure different things stand side by side by what is comparable, and by nothing else."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.figures import families
from scaling.analysis.figures.chart import Absent, Chart, Line, Points, limits
from scaling.analysis.report import families as report_families
from scaling.analysis.report.page import write_report
from tests.analysis import simulated
from tests.analysis.conformance import analyse
from tests.analysis.report.test_page import HOSTILE, Page

Results = dict[str, Any]
MASKED = simulated.Chinchilla(E=0.9, A=60.0, B=500.0, alpha=0.3, beta=0.42)
NAMES = ("decoder-causal", "encoder-masked")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Two groups of known laws, of the same three budgets but for rounding; the second predicts 15% of its tokens."""
    made = {}
    for name, truth, off, share in zip(NAMES, (simulated.TRUTH, MASKED), (1.0, 1.004), (1.0, 0.15), strict=True):
        frame = simulated.table(noise_nats=0.001, budgets=tuple(off * c for c in (1e14, 3e14, 1e15)), truth=truth)
        frame["predicted_tokens"] = share * frame["tokens"]
        observed = simulated.observe(frame, tmp_path_factory.mktemp("table"))
        made[name] = analyse(observed, bootstrap=20, holdout=None)
    return made


@pytest.fixture(scope="module")
def page(parts: dict[str, Results], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    pages = {name: root / name / "report.html" for name in parts}
    return report_families.write_families(parts, pages, root)


def drawn(parts: dict[str, Results]) -> list[Any]:
    chart = families.curves(parts)
    assert isinstance(chart, Chart)
    return [panel for panel in chart.panels if panel is not None]


def test_each_group_has_a_panel_of_its_own_with_its_own_loss_axis(parts: dict[str, Results]) -> None:
    panels = drawn(parts)
    assert [panel.title for panel in panels] == list(NAMES)
    for panel, results in zip(panels, parts.values(), strict=True):
        losses = results["observations"]["loss"]
        low, high = limits(panel, "y")
        assert low < min(losses) < max(losses) < high
        assert high - low < 1.2 * np.ptp(losses)
        assert panel.y.label == results["conventions"]["loss"]
    assert limits(panels[0], "y") != limits(panels[1], "y")


def test_budgets_that_differ_by_rounding_share_a_colour_and_a_label(parts: dict[str, Results]) -> None:
    runs = [[m for m in p.marks if isinstance(m, Points) and m.label and m.marker != "star"] for p in drawn(parts)]
    looks = [[(mark.color, mark.label) for mark in marks] for marks in runs]
    assert looks[0] == looks[1]
    assert len(set(looks[0])) == 3


def test_growth_compares_each_loss_with_its_own_groups_first(parts: dict[str, Results]) -> None:
    chart = families.growth(parts)
    assert isinstance(chart, Chart)
    panel = chart.panels[2]
    assert panel is not None
    for mark in (mark for mark in panel.marks if isinstance(mark, Points)):
        assert mark.y[0] == 1.0
        assert (np.diff(mark.y) < 0).all()
    starts = [mark.y[0] for mark in panel.marks if isinstance(mark, Line)]
    assert starts == pytest.approx([1.0, 1.0], abs=0.01)


def test_the_tables_hold_the_laws_of_the_results_and_no_raw_loss(parts: dict[str, Results]) -> None:
    tables = [report_families.exponents(parts), report_families.optima(parts)]
    for row, results in zip(tables[0].rows, parts.values(), strict=True):
        laws = results["isoflop"]["laws"][results["isoflop"]["used"]]
        assert [cell.value for cell in row[2:5]] == [laws[q]["exponent"] for q in ("params", "tokens", "loss")]
        assert f"{laws['params']['interval']['low']:.3f} to {laws['params']['interval']['high']:.3f}" in row[2].words
    assert [row[6].words for row in tables[0].rows] == ["100.0%", "15.0%"]
    assert len(tables[1].rows) == 6
    assert all(row[6].value == 0 or -0.5 < row[6].value < 0 for row in tables[1].rows)
    said = " ".join(cell.words for table in tables for row in table.rows for cell in row)
    for results in parts.values():
        for budget in results["isoflop"]["budgets"]:
            loss = budget["estimates"][results["isoflop"]["used"]]["loss"]["value"]
            assert not [digits for digits in (2, 3, 4) if f" {loss:.{digits}f} " in f" {said} "]


def test_tokens_predicted_a_flop_are_those_of_the_optimum(parts: dict[str, Results]) -> None:
    row = report_families.optima(parts).rows[3]
    assert row[0].words == "encoder-masked"
    assert row[5].value == pytest.approx(0.15 * row[3].value / row[1].value)


def test_runs_that_do_not_say_what_was_predicted_get_a_dash(parts: dict[str, Results]) -> None:
    older = copy.deepcopy(parts)
    del older[NAMES[0]]["observations"]["predicted_tokens"]
    older[NAMES[1]]["observations"]["predicted_tokens"][2] = None
    assert [row[6].words for row in report_families.exponents(older).rows] == ["–", "–"]


def test_a_minimum_on_the_edge_has_no_number_and_moves_no_other(parts: dict[str, Results]) -> None:
    changed = copy.deepcopy(parts)
    study = changed[NAMES[0]]["isoflop"]
    study["budgets"][0]["edge"] = study["budgets"][0]["estimates"][study["used"]]["edge"] = "on the edge"
    for law in study["laws"][study["used"]].values():
        law["budgets"] = [1, 2]
    first, second = report_families.optima(changed).rows[:2]
    assert [cell.words for cell in first[2:]] == ["–", "–", "–", "–", "–", "on the edge"]
    assert second[6].value == 0


def test_the_page_warns_of_every_group_links_to_each_and_ranks_no_losses(page: Path, parts: dict[str, Results]) -> None:
    text = page.read_text()
    found = Page(text)
    links = {one["href"] for tag, one in found.elements if tag == "a"}
    assert {f"{name}/report.html" for name in NAMES} <= links
    assert report_families.CAUTION in found.text
    for name, results in parts.items():
        assert all(f"{name}: {warning}" in found.text for warning in results["warnings"])
    assert all((page.parent / "figures" / f"{name}.png").stat().st_size > 1000 for name in ("families", "growth"))
    assert not re.search(r"\bbest loss|lowest loss|lower loss than", found.text)


def test_groups_without_budgets_are_named_and_nothing_fails(parts: dict[str, Results], tmp_path: Path) -> None:
    bare = {name: {**results, "isoflop": None} for name, results in parts.items()}
    assert isinstance(families.curves(bare), Absent)
    text = Page(report_families.write_families(bare, {}, tmp_path).read_text()).text
    assert text.count("Not drawn:") == 2
    one = families.curves({**parts, NAMES[0]: bare[NAMES[0]]})
    assert isinstance(one, Chart)
    assert f"without budgets of enough sizes: {NAMES[0]}" in one.caption


def test_groups_that_quote_different_curve_models_stand_side_by_side_by_one(
    parts: dict[str, Results], tmp_path: Path
) -> None:
    mixed = copy.deepcopy(parts)
    for (name, results), used in zip(mixed.items(), ("parabola", "surface"), strict=True):
        results["isoflop"]["used"] = used
        results["isoflop"]["laws"]["surface"] = {"params": {"exponent": None, "why": f"{name} by its surface"}}
    text = Page(report_families.write_families(mixed, {}, tmp_path).read_text()).text
    assert f"every minimum is the parabola's; on its own page {NAMES[1]} is read off another curve" in text
    assert "by its surface" not in text
    assert "Curves: parabola;" in text


def test_names_from_data_are_text_and_never_markup(parts: dict[str, Results], tmp_path: Path) -> None:
    hostile = dict(zip((HOSTILE, HOSTILE + "'"), parts.values(), strict=True))
    found = Page(report_families.write_families(hostile, {}, tmp_path).read_text())
    assert not any(tag == "img" for tag, _ in found.elements)
    assert found.text.count("<script>alert(1)</script>") > 5


@pytest.mark.long
def test_a_single_groups_page_is_what_it_was(parts: dict[str, Results], tmp_path: Path) -> None:
    found = Page(write_report(parts[NAMES[0]], tmp_path).read_text())
    assert "Each group's own report" not in found.text
    assert "Every number above is in results.json (schema 1)" in found.text
