"""A law of one variable is fitted to, drawn over and asked about its variable alone."""

from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.judgement.forecast import describe, predict
from scaling.analysis.report.page import write_report
from scaling.analysis.results.document import analyse, read, write
from scaling.analysis.runs.observations import load


@pytest.mark.parametrize(("column", "law"), [("params", "power:N"), ("tokens", "power:D"), ("flops", "power:C")])
def test_a_law_of_one_variable_needs_its_variable_alone(tmp_path: Path, column: str, law: str) -> None:
    x = np.geomspace(1e8, 1e11, 12)
    rows = "".join(f"{one:.0f},{1.7 + 300 * one**-0.3 * (1 + 0.01 * (-1) ** k):.5f}\n" for k, one in enumerate(x))
    path = tmp_path / "runs.csv"
    path.write_text(f"{column},loss\n{rows}")
    results = analyse(load(path), laws=[law], bootstrap=40)
    write(results, tmp_path / "results.json")
    results = read(tmp_path / "results.json")
    asked: dict[str, float] = {column: 1e12}
    found = predict(results, **asked)
    assert found["loss"]["value"] == pytest.approx(1.7 + 300 * 1e12**-0.3, abs=0.03)
    assert found["loss"]["low"] is not None
    assert "1.00 decades beyond the data" in describe(found)
    assert write_report(results, tmp_path / "report").is_file()
    with pytest.raises(ValueError, match=rf"has no \w+ column .*; a law of {law[-1]} alone needs no more: --law {law}"):
        analyse(load(path), bootstrap=0)
    assert results["range"][column] == pytest.approx([1e8, 1e11])  # type: ignore[literal-required]
