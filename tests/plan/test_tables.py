"""The table of a plan: it fits the terminal, and its runs stand by their budgets."""

import json
from pathlib import Path

import pytest

from scaling.cli import main

ASKED = ["plan", "+sweep=quickstart", "data=synthetic"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (130, "run status seed shape N tokens D/N steps batch lr epochs C (exact) memory time"),
        (80, "run seed shape N tokens D/N steps batch lr time"),
        (60, "run seed shape N tokens D/N time"),
    ],
)
def test_a_table_fits_its_terminal(
    width: int, heads: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(ASKED) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("run "))
    assert lines[head].split() == heads.split()
    table = lines[head : lines.index("", head)]
    assert max(map(len, table[:46])) <= width
    assert [line.startswith("no room for: ") for line in table[46:47]] == [True] * (width < 130)
    titles = [line for line in table if line.startswith("C = ")]
    assert [title.split()[2] for title in titles] == ["3.16e+10", "1e+11", "3.16e+11", "1e+12"]
    assert all(": 10 runs, " in title for title in titles)


def test_budgets_in_tokens_make_no_groups(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = "model.d_model=16,32,64"
    assert main(["plan", "data=synthetic", shapes, "budget.flops=null", "budget.tokens=1e6,2e6"]) == 0
    assert "C = " not in capsys.readouterr().out


def test_json_holds_every_run_and_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["runs"]) == plan["to_train"] == 40
    assert sum(run["paid_flops"] for run in plan["runs"]) == plan["total_flops"]
    assert {run["seed"] for run in plan["runs"]} == {0, 1}
    assert plan["question"].endswith("?")
