"""Names: the distribution's in every hint, the package's beside a user's own folders, and those of a notebook."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import scaling
from scaling.analysis import analyse, draw, fit, load
from scaling.analysis.laws import LAWS
from scaling.cli import main
from scaling.extras import DISTRIBUTION, install, library
from tests.test_package import ROOT

TABLE = "params,tokens,flops,loss\n" + "".join(
    f"{n:.0f},{d:.0f},{7 * n**0.97 * d:.6g},{1.8 + 480 * n**-0.35 + 2e3 * d**-0.37:.9f}\n"
    for c in np.geomspace(1e18, 1e20, 4)
    for n in np.sqrt(c / 120) * np.geomspace(0.3, 3, 5)
    for d in [c / (7 * n**0.97)]
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a table of runs and an `analysis` package of the user's own."""
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(TABLE)
    Path("analysis").mkdir()
    Path("analysis/__init__.py").write_text("MINE = 7\n")
    return tmp_path


def test_every_hint_names_the_distribution_and_an_extra_that_it_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    folders = ("scaling", "analysis", "conf", "docs", "tests")
    files = [*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    texts = {path.name: path.read_text() for path in files if path.suffix in (".py", ".md", ".yaml")}
    hints = [hint for text in texts.values() for hint in re.findall(r"pip install '([\w-]+)\[(\w+)\]", text)]
    assert len(hints) > 5
    assert {name for name, _ in hints} == {DISTRIBUTION}
    assert {extra for _, extra in hints} <= set(project["optional-dependencies"])
    with pytest.raises(ValueError, match=r"this needs no_such_module .*pip install 'scaling-experiments\[hf\]'"):
        library("no_such_module", "hf", "this")
    assert install("hf") == "pip install 'scaling-experiments[hf]'"


def test_a_folder_of_the_users_own_hides_no_module(here: Path) -> None:
    code = (
        "import analysis; from scaling.analysis import fit, load; import scaling\n"
        "assert analysis.MINE == 7\n"
        "print(fit('chinchilla', load('runs.csv')).status, len(scaling.load_runs('runs.csv')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path(here))
    assert done.stdout.split()[-1] == "20"
    command = ["-m", "scaling.cli", "fit", "runs.csv", "--bootstrap", "0", "--holdout", "none"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, env=_path(here))
    assert "chinchilla" in done.stdout


def _path(here: Path) -> dict[str, str]:
    """An environment whose every process finds the user's folder first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(ROOT)])}


def test_the_old_name_gives_the_same_modules(tmp_path: Path) -> None:
    code = (
        "import analysis.laws.law as old, scaling.analysis.laws.law as new, analysis\n"
        "from analysis import figures, fit\n"
        "assert old is new and analysis.laws.law is new and new.__spec__.name == new.__name__\n"
        "import runpy; runpy.run_module('analysis.schema.describe', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("# Documents of the analysis")


def test_a_notebook_starts_from_one_import_that_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'scipy', 'numpy', 'matplotlib'}"
    code = f"import sys, scaling, scaling.analysis; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    with pytest.raises(AttributeError, match="module 'scaling.analysis' has no attribute 'fits'"):
        _ = scaling.analysis.fits


def test_a_frame_holds_every_run(here: Path) -> None:
    frame = scaling.load_runs("runs.csv", where="params > 2e8")
    assert {"params", "tokens", "flops", "loss", "run_id"} <= set(frame.columns)
    assert (frame["params"] > 2e8).all()


def test_the_optimum_of_fitted_runs_is_under_their_own_cost(here: Path) -> None:
    runs = load("runs.csv")
    law = fit("chinchilla", runs).law
    best, of_6nd = law.optimum(C=1e20), LAWS["chinchilla"](**{name: getattr(law, name) for name in law.declared()})
    assert pytest.approx(1e20, rel=1e-3) == best.N**0.97 * best.D * 7
    assert pytest.approx(1e20) == of_6nd.optimum(C=1e20).N * of_6nd.optimum(C=1e20).D * 6
    columns = fit("chinchilla", runs.variables(["N", "D"]), runs.column("loss"))
    assert columns.law.optimum(C=1e20) == of_6nd.optimum(C=1e20)
    with pytest.raises(ValueError, match="come without their losses"):
        fit("chinchilla", runs.variables(["N", "D"]))


def test_a_figure_draws_a_panel_on_given_axes(here: Path) -> None:
    results = analyse(load("runs.csv"), bootstrap=0, holdout=None)
    figure = Figure(figsize=(8, 4))
    left, right = figure.subplots(1, 2)
    with plt.rc_context({"font.size": 15}):
        draw("isoflop", results, left)
    assert left.get_xscale() == "log"
    assert len(left.collections) > 2
    assert left.get_legend() is not None
    assert not right.has_data()
    draw("rollout", results, right)
    assert "roll-out" in " ".join(text.get_text() for text in right.texts).lower()
    with pytest.raises(ValueError, match="'isoflop' has no panel 9: choose from 0 to"):
        draw("isoflop", results, right, panel=9)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"scaling {scaling.__version__}\n"
