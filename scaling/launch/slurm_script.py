"""The batch script of Slurm workers, as a pure function of its settings."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

# Slurm sends the signal up to a minute early, so that a short limit would end before it has begun; there the worker's
# own clock decides (`--until`).
SIGNAL_S, SHORTEST_S = 120, 600
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


@dataclass(frozen=True)
class SlurmSettings:
    """Settings of hydra/launcher=slurm; conf/hydra/launcher/slurm.yaml explains each."""

    partition: str | None
    account: str | None
    qos: str | None
    gpus: int
    cpus: int
    memory: str | None
    time: str | int
    nodes: int
    array_parallel: int | None
    setup: Sequence[str]
    wait: bool

    def __post_init__(self) -> None:
        for name, least in (("gpus", 0), ("cpus", 1), ("nodes", 1), ("array_parallel", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"hydra.launcher.{name}={value}: must be at least {least}")
        if seconds(self.time) < 60:
            raise ValueError(f"hydra.launcher.time={self.time}: must be at least a minute")


def seconds(limit: str | int) -> int:
    """Seconds of a time limit as Slurm writes it: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; ValueError for others."""
    found = TIME.fullmatch(str(limit))
    if found is None:
        raise ValueError(f"hydra.launcher.time={limit}: give minutes, H:M:S or D-H:M:S, as 90, 1:30:00 or 2-00:00:00")
    first, second, third = (None if part is None else int(part) for part in found.group("first", "second", "third"))
    assert first is not None
    if found["days"] is not None:
        return ((int(found["days"]) * 24 + first) * 60 + (second or 0)) * 60 + (third or 0)
    if third is not None:
        return (first * 60 + (second or 0)) * 60 + third
    return first * 60 + (second or 0)


def comment_of(study_dir: Path, plan_id: str) -> str:
    """The comment of a study's workers in the queue; a digest tells folders of the same name and plan apart."""
    return f"{study_dir.name}:{plan_id}:{sha256(str(study_dir).encode()).hexdigest()[:8]}"


def render(
    settings: SlurmSettings, *, study_dir: str, study: str, comment: str, directory: str, workers: int, python: str
) -> str:
    """The batch script of an array of `workers` workers of a study; `comment` is that of `comment_of`.

    `python` is the interpreter of the workers, `directory` their working directory.
    """
    limit_s = seconds(settings.time)
    asked = {
        "job-name": f"scaling-{study}",
        "comment": comment,
        "array": f"0-{workers - 1}",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "nodes": settings.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": settings.cpus,
        "gpus-per-node": settings.gpus or None,
        "mem": settings.memory,
        "time": -(-limit_s // 60),
        "signal": f"B:USR2@{SIGNAL_S}" if limit_s >= SHORTEST_S else None,
        "open-mode": "append",
        "output": f"{study_dir}/slurm/%A_%a.log",
        "chdir": directory,
    }
    options = [f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in asked.items() if value is not None]
    worker = [python, "-m", "scaling.cli", "worker", study_dir]
    lines = [
        "#!/bin/bash",
        *options,
        "#SBATCH --requeue",
        "",
        # The end of the job: Slurm states it from version 23 on.
        f'ends="${{SLURM_JOB_END_TIME:-$(( $(date +%s) + {limit_s} ))}}"',
        *settings.setup,
        # exec, so that the worker itself receives the signals
        f'exec {shlex.join(worker)} --until "$ends" --requeue slurm',
    ]
    return "\n".join(lines) + "\n"
