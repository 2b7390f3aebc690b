"""Imports run one way between the rooms of the house, and what must start fast imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import the rooms named before it, and itself. A module outside every room counts as a room.
SCALING = """registry quantities terminal extras trackers shapes spec records data machine plan config model objectives
             train launch hf profiling tune finetune cli"""
ANALYSIS = """old_name words quantiles schema laws runs fitting curves isoflop health judgement studies design results
              figures report"""
ROOMS = {"scaling": SCALING.split(), "analysis": ANALYSIS.split()}
ANALYSIS_SEES = {"registry", "shapes", "records"}  # of scaling: names, counts, and what runs leave on disk
DOORS = {"__init__", "__main__", "plugins", "cli"}  # the package's own, python -m, Hydra's, and the command line
KNOWS_HYDRA = {"config", "launch", "plugins"}
PLANS = "scaling.cli scaling.config.grid scaling.plan.tables scaling.launch.sweep scaling.finetune.plan"
REPORTS = "scaling.analysis.results.parts scaling.analysis.report.families"

MODULES = [path for package in ROOMS for path in sorted((ROOT / package).rglob("*.py"))]


def place(path: Path) -> tuple[str, str]:
    """The package and the room that a file belongs to; what `python -m` starts is a door wherever it lies."""
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    return package, "__main__" if inside[-1] == "__main__" else inside[0]


def imported(path: Path) -> set[str]:
    """The modules that a file imports, those that its functions import included; scaling.analysis.X as analysis.X."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module.removeprefix("scaling.") if module.startswith("scaling.analysis.") else module for module in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    package, room = place(path)
    if room in DOORS - {"cli"}:
        return
    before = set(ROOMS[package][: ROOMS[package].index(room) + 1])
    for module in imported(path):
        other, _, rest = module.partition(".")
        if other in ROOMS and (target := rest.partition(".")[0]) and not target.startswith("__"):
            allowed = before if other == package else ANALYSIS_SEES if package == "analysis" else set()
            assert room == "cli" or target in allowed, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_some_rooms_know_hydra(path: Path) -> None:
    roots = {module.partition(".")[0] for module in imported(path)}
    assert place(path)[1] in KNOWS_HYDRA or not roots & {"hydra", "omegaconf"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}

    def depends(name: str) -> set[str]:
        found = imported(names[name])
        return {m if m in names else m.rpartition(".")[0] for m in found} & set(names) - {name}

    left = {name: depends(name) for name in names}
    while free := {name for name, needs in left.items() if not needs & set(left)}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left


@pytest.mark.parametrize("modules", [PLANS, REPORTS])
def test_what_plans_fits_and_reports_runs_without_torch(modules: str) -> None:
    code = f"import sys, {modules.replace(' ', ', ')}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys, contextlib, io\nfrom scaling.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    main(['--help'])\n"
        "sys.exit(bool({'torch', 'pandas', 'hydra', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", ["scaling", "analysis", "tests"])
def test_no_room_is_crowded(package: str) -> None:
    folders = [folder for folder in (ROOT / package).rglob("*") if folder.is_dir() and folder.name != "figures"]
    crowded = {str(f.relative_to(ROOT)): n for f in folders if (n := len(list(f.glob("*.py")))) > 21}
    assert not crowded
