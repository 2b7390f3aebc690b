"""The batch script of Slurm workers, as text."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.launch.slurm_script import SlurmSettings, render, seconds

PLAIN = SlurmSettings(
    partition=None,
    account=None,
    qos=None,
    gpus=1,
    cpus=4,
    memory=None,
    time="4:00:00",
    nodes=1,
    array_parallel=None,
    setup=(),
    wait=True,
)


def script(settings: SlurmSettings, workers: int = 3, study_dir: str = "/data/runs/s") -> str:
    return render(
        settings,
        study_dir=study_dir,
        study="s",
        comment="s:0123",
        directory="/data",
        workers=workers,
        python="/env/bin/python",
    )


def test_the_whole_script_of_plain_settings() -> None:
    assert script(PLAIN) == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=scaling-s\n"
        "#SBATCH --comment=s:0123\n"
        "#SBATCH --array=0-2\n"
        "#SBATCH --nodes=1\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --cpus-per-task=4\n"
        "#SBATCH --gpus-per-node=1\n"
        "#SBATCH --time=240\n"
        "#SBATCH --signal=B:USR2@120\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --output=/data/runs/s/slurm/%A_%a.log\n"
        "#SBATCH --chdir=/data\n"
        "#SBATCH --requeue\n"
        "\n"
        'ends="${SLURM_JOB_END_TIME:-$(( $(date +%s) + 14400 ))}"\n'
        'exec /env/bin/python -m scaling.cli worker /data/runs/s --until "$ends" --requeue slurm\n'
    )


def test_settings_that_are_given_are_asked_for_and_setup_comes_before_the_worker() -> None:
    given = replace(PLAIN, partition="gpu", account="a", qos="q", gpus=0, memory="8G", setup=("module load x", "y"))
    lines = script(given).splitlines()
    for option in ("partition=gpu", "account=a", "qos=q", "mem=8G"):
        assert f"#SBATCH --{option}" in lines
    assert not any("gpus" in line for line in lines)
    assert lines[-3:-1] == ["module load x", "y"]
    assert lines[-4].startswith("ends=")  # the time of setup is the job's own


@pytest.mark.parametrize(("limit", "signalled"), [(1, False), ("9:59", False), (10, True), ("1-0", True)])
def test_a_short_limit_ends_by_the_workers_clock_because_slurm_signals_up_to_a_minute_early(
    limit: str | int, signalled: bool
) -> None:
    assert ("--signal=B:USR2@120" in script(replace(PLAIN, time=limit))) == signalled


@pytest.mark.parametrize("study_dir", ["/data/my runs/s", "/data/it's/s", "/data/$(touch x)/s"])
def test_hostile_paths_are_one_word_and_valid_bash(study_dir: str, tmp_path: Path) -> None:
    last = script(PLAIN, study_dir=study_dir).splitlines()[-1].replace("exec /env/bin/python", "printf '%s\\n'")
    printed = subprocess.run(["bash", "-c", last], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert study_dir in printed.splitlines()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(90, 5400), ("2:30", 150), ("1:30:00", 5400), ("1-0", 86400), ("1-2:30", 95400), ("2-0:0:1", 172801)],
)
def test_limits_are_read_as_slurm_writes_them(limit: str | int, expected: int) -> None:
    assert seconds(limit) == expected


def test_impossible_settings_are_named() -> None:
    with pytest.raises(ValueError, match="hydra.launcher.time=soon: give minutes"):
        replace(PLAIN, time="soon")
    with pytest.raises(ValueError, match="hydra.launcher.array_parallel=0: must be at least 1"):
        replace(PLAIN, array_parallel=0)
