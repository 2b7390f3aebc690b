"""One sweep gives identical records, times and hosts aside, whatever launches its runs."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from scaling.launch import slurm
from tests.faults.clusters import unanswered, without_ray
from tests.faults.runs import ONE_SLOT, SCALING, Outcomes, check, outcomes

STUDY = Path("runs") / "smoke"
# The sweep's grid at smaller budgets, on data that are made in a moment; threads are fixed, as sums depend on them.
SMOKE = (
    *("+sweep=smoke", "hydra.sweeper.budgets=[1e8,2e8]", "budget.least_steps=1"),
    *("data=synthetic", "data.source.tokens=200000", "val_tokens=2048"),
    *("runtime.threads=1", "runtime.keep_weights=false"),
)
SMALL_JOBS = tuple(f"hydra.launcher.{setting}" for setting in ("gpus=0", "cpus=1", "memory=1G", "time=5"))


def without(module: str) -> str:
    """Why a launcher of Hydra's own cannot be asked; empty where its package is installed."""
    return "" if find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{module}") else f"{module} is not installed"


# Settings of each launcher that runs at once, and the reason why these cannot be asked here.
LAUNCHERS: dict[str, tuple[list[tuple[str, ...]], str]] = {
    "local": ([("hydra/launcher=local",)], ""),
    "two local at once": ([("hydra/launcher=local", *ONE_SLOT)] * 2, ""),
    "slurm": ([("hydra/launcher=slurm", *SMALL_JOBS, "hydra.launcher.array_parallel=2")], unanswered()),
    "ray": ([("hydra/launcher=ray",)], without_ray()),
    "submitit_local": (
        [("hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=submitit/%j")],
        without("hydra_submitit_launcher"),
    ),
    "submitit_slurm": (
        [
            (
                *("hydra/launcher=submitit_slurm", "hydra.launcher.submitit_folder=submitit/%j"),
                *(f"hydra.launcher.{setting}" for setting in ("cpus_per_task=1", "mem_gb=1", "timeout_min=5")),
            )
        ],
        without("hydra_submitit_launcher") or unanswered(),
    ),
    "joblib": ([("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], without("hydra_joblib_launcher")),
}


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """The outcomes of the sweep by Hydra's own launcher, in one process."""
    folder = tmp_path_factory.mktemp("basic")
    launch(folder, [("hydra/launcher=basic",)])
    return outcomes(folder / STUDY)


def launch(folder: Path, launchers: list[tuple[str, ...]]) -> None:
    """Train the sweep by launchers at once."""
    commands = [[SCALING, "train", "-m", *SMOKE, *settings] for settings in launchers]
    started = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in started:
        _, printed = process.communicate(timeout=500)
        assert process.returncode == 0, printed


@pytest.mark.long
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_sweep_gives_identical_records(name: str, basic: Outcomes, tmp_path: Path) -> None:
    settings, why = LAUNCHERS[name]
    if why:
        pytest.skip(f"{name}: {why}")
    try:
        launch(tmp_path, settings)
        check(tmp_path / STUDY, basic)
    finally:
        if (intent := tmp_path / STUDY / slurm.FOLDER / slurm.INTENT).exists():
            for job in slurm.queue(json.loads(intent.read_text())["comment"]):
                subprocess.run(["scancel", job.array], check=False)
    assert len(basic) == 10
