"""The import direction between the parts, and what must not be imported where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HYDRA_ALLOWED = {
    "scaling/config.py",
    "scaling/grid.py",
    "scaling/launch/task.py",
    "scaling/launch/sweep.py",
    "scaling/launch/preload.py",
}
TORCH_FREE = ["analysis", "scaling/cli", "scaling/data", "scaling/corruption.py"] + [
    f"scaling/{name}.py"
    for name in (
        "registry",
        "ledger",
        "shape",
        "families",
        "objective_spec",
        "flops",
        "spec",
        "budget",
        "parametrization",
        "recipe",
        "record",
        "branches",
        "stacks",
        "attempt",
        "memory",
        "speed",
        "plan",
        "plan_warnings",
        "config",
        "grid",
        "finetune/tasks",
        "finetune/tables",
        "finetune/stdlib_text",
        "finetune/settings",
        "finetune/plan",
    )
]
ANALYSIS_SEES = {"scaling.registry", "scaling.ledger", "scaling.shape", "scaling.flops", "scaling.record"}
# A module may import those listed before it, and its own group.
ORDER = [
    {"registry", "quantities", "ledger"},
    {"shape", "objective_spec"},
    {"families"},
    {"flops", "spec"},
    {"budget", "record", "runtime", "branches", "stacks"},
    {"parametrization", "attempt", "speed", "memory", "data", "model", "chunked_loss"},
    {"recipe"},
    {"schema"},
    {"config", "corruption", "trackers"},
    {"objectives", "grid", "plan_warnings"},
    {"train", "plan"},
    {"render", "hf", "profiling", "transfer"},
    {"launch"},
    {"bench", "finetune", "tune"},
    {"cli"},
]


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path, *, only_at_import: bool = False) -> set[str]:
    """The modules a file imports, in full; functions' own imports too unless `only_at_import`."""
    tree = ast.parse(path.read_text())
    inside = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef)
        for node in ast.walk(outer)
        if node is not outer
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if only_at_import and node in inside:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(module: str) -> str | None:
    """The part of `scaling` that a module belongs to."""
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "scaling" and len(pieces) > 1 else None


@pytest.mark.parametrize("path", files("scaling"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_order(path: Path) -> None:
    relative = path.relative_to(ROOT / "scaling")
    own = relative.parts[0].removesuffix(".py")
    if own in ("__init__", "plugins") or path.name == "__main__.py":
        return
    level = next((i for i, group in enumerate(ORDER) if own in group), None)
    assert level is not None, f"{own} has no place in the import order"
    allowed = set().union(*ORDER[: level + 1])
    if own in ("plan", "train"):
        allowed |= {"launch"}  # scaling.launch.devices alone, which imports nothing of ours
    parts = {part for module in imported(path) if (part := part_of(module))} - {"__version__"}
    assert parts <= allowed, f"{path.name} reaches up to {parts - allowed}"
    if own != "cli":
        assert not {module for module in imported(path) if module.split(".")[0] == "analysis"}


@pytest.mark.parametrize("path", files("analysis"), ids=lambda path: str(path.relative_to(ROOT)))
def test_analysis_sees_only_the_ledgers(path: Path) -> None:
    seen = {module for module in imported(path) if module.split(".")[0] == "scaling" and module != "scaling"}
    assert all(any(module == ok or module.startswith(ok + ".") for ok in ANALYSIS_SEES) for module in seen), seen


def test_only_config_grid_and_the_launch_shims_know_hydra() -> None:
    knows = {
        str(path.relative_to(ROOT))
        for path in files("scaling", "analysis")
        if {module.split(".")[0] for module in imported(path)} & {"hydra", "omegaconf"}
    }
    assert {path for path in knows if not path.startswith("scaling/plugins/")} <= HYDRA_ALLOWED


def test_what_must_start_fast_imports_no_torch() -> None:
    for entry in TORCH_FREE:
        for path in files(entry) if (ROOT / entry).is_dir() else [ROOT / entry]:
            assert "torch" not in {module.split(".")[0] for module in imported(path)}, path


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys, contextlib, io\nfrom scaling.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    main(['--help'])\n"
        "sys.exit(bool({'torch', 'pandas', 'hydra', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
