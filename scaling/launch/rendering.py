"""Workers of a planned study as texts for schedulers elsewhere: a Kubernetes Job, a SkyPilot task, a Slurm script.

All three start the same workers from the settings of hydra/launcher=slurm. Rendering is pure, and starts nothing.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from scaling.launch import slurm_script
from scaling.launch.exit_codes import FAILURES_LEFT, MISTAKE, START_AGAIN
from scaling.launch.slurm_script import SlurmSettings, seconds

GRACE_S = 120  # between the signal and the end of a pod: a run saves at the end of its step
FAILURES = 6  # ends of an index for other reasons than those of the exit codes, such as a container that is killed
RECOVERIES = 1000  # starts of a SkyPilot job that asks to be started again
NAME_LENGTH = 52  # characters of a Job's name, which leave its pods' names room for their index and suffix


@dataclass(frozen=True)
class Workers:
    """Workers of a study: which, how many, and where their files and their software come from."""

    study_dir: str  # as workers see it
    study: str
    plan_id: str
    directory: str  # working directory, which the paths of runs are relative to
    count: int
    python: str
    image: str | None  # container image
    storage: str | None  # the claim of a volume (k8s) or the URL of a bucket (skypilot) that holds `directory`
    gpu: str | None  # kind of GPU, in SkyPilot's names

    def command(self, settings: SlurmSettings) -> str:
        """The shell lines of one worker; `exec`, so that the worker itself receives the signals."""
        words = [self.python, "-m", "scaling.cli", "worker", self.study_dir, "--until"]
        return "\n".join([*settings.setup, f"exec {shlex.join(words)} +{seconds(settings.time) // 60}"])


def sbatch(settings: SlurmSettings, workers: Workers) -> str:
    """The batch script of an array of workers, as the launcher submits it."""
    return slurm_script.render(
        settings,
        study_dir=workers.study_dir,
        study=workers.study,
        comment=slurm_script.comment_of(Path(workers.directory, workers.study_dir), workers.plan_id),
        directory=workers.directory,
        workers=workers.count,
        python=workers.python,
    )


def k8s(settings: SlurmSettings, workers: Workers) -> str:
    """An Indexed Job of batch/v1, one index a worker; a pod's end counts by the worker's exit code."""
    image = _needed("--image", workers.image, "a container image with this package, as ghcr.io/me/scaling:1")
    storage = _needed("--storage", workers.storage, f"the PersistentVolumeClaim that holds {workers.directory}")
    _refuse_nodes(settings)
    asked: dict[str, Any] = {"cpu": str(settings.cpus)}
    if settings.memory is not None:
        asked["memory"] = in_bytes(settings.memory)
    limits = {**asked, **({"nvidia.com/gpu": str(settings.gpus)} if settings.gpus else {})}
    name = re.sub(r"[^a-z0-9]+", "-", f"scaling-{workers.study}".lower())[: NAME_LENGTH - 13].strip("-")
    labels = {"app.kubernetes.io/name": "scaling", "app.kubernetes.io/instance": f"{name}-{workers.plan_id}"}
    container = {
        "name": "worker",
        "image": image,
        "workingDir": workers.directory,
        "command": ["/bin/bash", "-c", workers.command(settings)],
        "resources": {"requests": asked, "limits": limits},
        "volumeMounts": [{"name": "runs", "mountPath": workers.directory}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [container],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": storage}}],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{name}-{workers.plan_id}", "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": workers.count,
            "parallelism": workers.count,
            "backoffLimitPerIndex": FAILURES,
            "maxFailedIndexes": workers.count,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    _rule("Ignore", START_AGAIN),
                    _rule("FailIndex", FAILURES_LEFT),
                    _rule("FailJob", MISTAKE),
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    return _comment("kubectl apply -f FILE") + OmegaConf.to_yaml(OmegaConf.create(job))


def skypilot(settings: SlurmSettings, workers: Workers) -> str:
    """A SkyPilot task of one worker, on spot machines; as many managed jobs of it serve the study at once."""
    storage = _needed("--storage", workers.storage, f"the URL of the bucket that holds {workers.directory}, as s3://me")
    _refuse_nodes(settings)
    resources: dict[str, Any] = {
        "cpus": f"{settings.cpus}+",
        "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": 0, "recover_on_exit_codes": [START_AGAIN]},
    }
    if settings.memory is not None:
        resources["memory"] = f"{in_gibibytes(settings.memory):g}+"
    if settings.gpus:
        kind = _needed("--gpu", workers.gpu, "a kind of GPU in SkyPilot's names, as H100")
        resources["accelerators"] = f"{kind}:{settings.gpus}"
    if workers.image is not None:
        resources["image_id"] = f"docker:{workers.image}"
    task = {
        "name": f"scaling-{workers.study}",
        "num_nodes": 1,
        "resources": resources,
        "file_mounts": {workers.directory: {"source": storage, "mode": "MOUNT"}},
        "run": f"cd {shlex.quote(workers.directory)}\n{workers.command(settings)}\n",
    }
    launch = f"for i in $(seq {workers.count}); do sky jobs launch --yes --detach-run FILE; done"
    return _comment(launch) + OmegaConf.to_yaml(OmegaConf.create(task))


RENDERERS: Mapping[str, Callable[[SlurmSettings, Workers], str]] = {"k8s": k8s, "skypilot": skypilot, "sbatch": sbatch}


def in_bytes(memory: str) -> str:
    """Memory as Slurm writes it, in units of 1024, as Kubernetes writes it: 32G is 32Gi, 32000 is 32000Mi."""
    number, unit = _memory(memory)
    return f"{number}{unit or 'M'}i"


def in_gibibytes(memory: str) -> float:
    """Memory as Slurm writes it, GiB."""
    number, unit = _memory(memory)
    return number * {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}[unit or "M"]


def _memory(memory: str) -> tuple[int, str]:
    found = re.fullmatch(r"(\d+)([KMGT]?)", memory.upper().removesuffix("B"))
    if found is None:
        raise ValueError(f"hydra.launcher.memory={memory}: give megabytes or a number with K, M, G or T, as 32G")
    return int(found[1]), found[2]


def _rule(action: str, code: int) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "worker", "operator": "In", "values": [code]}}


def _needed(option: str, value: str | None, meaning: str) -> str:
    if value is None:
        raise ValueError(f"{option} is missing: give {meaning}")
    return value


def _refuse_nodes(settings: SlurmSettings) -> None:
    if settings.nodes != 1:
        raise ValueError(
            f"hydra.launcher.nodes={settings.nodes}: a worker here has one node; --render sbatch has several"
        )


def _comment(command: str) -> str:
    return f"# Workers of a study; nothing was started. Exit codes: docs/workers.md.  {command}\n"
