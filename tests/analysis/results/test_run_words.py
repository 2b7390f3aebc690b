"""Runs in words: how many runs, and checkpoints of runs, stand at some places of the observations."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.analysis.report import prose, tables
from scaling.analysis.results.document import summary
from scaling.analysis.results.run_words import counted, outside
from scaling.analysis.runs.observations import load
from tests.analysis import simulated
from tests.analysis.conformance import analyse


def results_of(names: list[str], budgets: list[int | None]) -> Any:
    return {
        "observations": {"run_id": names, "budget": budgets},
        "isoflop": {"runs_in_no_budget": budgets.count(None)},
    }


def test_checkpoints_are_no_runs() -> None:
    results = results_of(["a", "a", "b", "c"], [0, None, None, 0])
    assert counted(results) == "4 checkpoints of 3 runs"
    assert counted(results, [0, 3]) == "2 runs"
    assert counted(results, [0, 1]) == "2 checkpoints of 1 run"
    assert outside(results) == "2 runs lie in no budget"
    assert outside(results_of(["a", "b"], [0, None])) == "1 run lies in no budget"
    assert outside(results_of(["a", "b"], [0, 0])) == ""


def test_budgets_of_checkpoints_are_counted_by_both(tmp_path: Path) -> None:
    sizes = np.geomspace(1e6, 1e8, 9)
    rows = [
        (f"size{k}", size, compute / (6 * size), float(simulated.TRUTH(N=size, D=compute / (6 * size))))
        for k, size in enumerate(sizes)
        for compute in (1e15, 1e15 * 1.01, 1e16, 1e16 * 1.01)
    ]
    path = tmp_path / "runs.csv"
    pd.DataFrame(rows, columns=["run_id", "params", "tokens", "loss"]).to_csv(path, index=False)
    results = analyse(load(path), bootstrap=0)
    assert "(18 checkpoints of 9 runs): N*" in summary(results)
    assert [row[1].words for row in tables.budgets(results).rows] == ["18 checkpoints of 9"] * 2
    assert prose.scope(results).startswith("36 checkpoints of 9 runs, 0 excluded")
