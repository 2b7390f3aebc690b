"""A table of minima with errors: which tables are one, the weighted line, and the messages of wrong rows."""

from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.isoflop.minima_table import MinimaTable, describe_line, fit_line, read_minima
from scaling.cli import main

FLOPS = np.geomspace(1e17, 1e20, 6)


def written(folder: Path, text: str) -> Path:
    (folder / "minima.csv").write_text(text)
    return folder / "minima.csv"


@pytest.mark.parametrize("column", ["params_se", "log_params_se"])
def test_errors_of_params_and_of_their_logarithm_give_one_line(column: str, tmp_path: Path) -> None:
    params = 0.03 * FLOPS**0.5 * np.array([1.1, 0.95, 1.02, 0.99, 1.0, 1.01])
    log_se = np.array([0.2, 0.1, 0.1, 0.05, 0.02, 0.02])
    errors = log_se * (params if column == "params_se" else 1)
    rows = "\n".join(f"{c},{n},{s}" for c, n, s in zip(FLOPS, params, errors, strict=True))
    table = read_minima(written(tmp_path, f"flops,params,{column}\n{rows}\n"))
    assert table is not None
    assert table.log_se == pytest.approx(log_se)
    line = fit_line(table, 0.95)
    slope, level = np.polyfit(np.log(FLOPS), np.log(params), 1, w=1 / log_se)
    assert line["exponent"] == pytest.approx(slope, rel=1e-9)
    assert line["coefficient"] == pytest.approx(np.exp(level), rel=1e-6)


def test_the_lines_interval_covers_at_its_level_whether_errors_are_right_or_too_small() -> None:
    rng = np.random.default_rng(0)
    for understated in (1.0, 3.0):
        covered = 0
        for _ in range(300):
            params = np.exp(0.5 * np.log(FLOPS) + 0.1 * understated * rng.standard_normal(6))
            line = fit_line(MinimaTable("m", FLOPS, params, np.full(6, 0.1), "params_se"), 0.95)
            covered += line["low"] <= 0.5 <= line["high"]
        assert covered >= 0.9 * 300, understated


def test_tables_with_a_loss_or_without_errors_are_no_minima(tmp_path: Path) -> None:
    assert read_minima(written(tmp_path, "flops,params,loss,params_se\n1e17,1e7,3,1e5\n")) is None
    assert read_minima(written(tmp_path, "flops,params\n1e17,1e7\n")) is None


def test_wrong_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"minima.csv: row 2: params_se is 0, not a positive number"):
        read_minima(written(tmp_path, "flops,params,params_se\n1e17,1e7,3\n1e18,3e7,0\n"))
    with pytest.raises(ValueError, match="1 minima at fewer than 2 different flops"):
        read_minima(tmp_path / "minima.csv", where="params_se > 0")


def test_fit_prints_the_line_of_a_table_of_minima(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "C,N,log_N_se\n1e17,1e7,0.1\n1e19,1e8,0.1\n")
    assert main(["fit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "holds minima and no runs" in out
    assert "C^0.5000" in out
    table = read_minima(path)
    assert table is not None
    assert "two minima leave nothing" in describe_line(fit_line(table, 0.95))
