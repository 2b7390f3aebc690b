"""Workers rendered for schedulers elsewhere, held to excerpts of the schedulers' published schemas.

Kubernetes: batch/v1 Job of the OpenAPI document, and the rules that its reference states for podFailurePolicy.
SkyPilot: the task of its YAML reference. Slurm: the options of the sbatch manual.
"""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scaling.cli import main
from scaling.launch.exit_codes import FAILURES_LEFT, MISTAKE, NOTHING_LEFT, START_AGAIN
from scaling.launch.rendering import RENDERERS, Workers, in_bytes, in_gibibytes
from scaling.launch.slurm_script import SlurmSettings
from tests.launch.test_worker import STUDY, planned

SETTINGS = SlurmSettings(None, None, None, 2, 8, "32G", "4:00:00", 1, None, ("source .venv/bin/activate",), wait=True)
WORKERS = Workers(
    study_dir="/data/runs/My study_1",
    study="My study_1",
    plan_id="0123456789ab",
    directory="/data",
    count=7,
    python="python",
    image="ghcr.io/me/scaling:1",
    storage="runs",
    gpu="H100",
)


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """The schema of an object that has these properties alone."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 0}
DNS = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
LABELS = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$"},
}
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}}
RULE = closed(
    ["action"],
    action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
    onExitCodes=closed(
        ["operator", "values"],
        containerName=DNS,
        operator={"enum": ["In", "NotIn"]},
        values={"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 255},
    ),
    onPodConditions={
        "type": "array",
        "maxItems": 20,
        "items": closed(["type"], type=TEXT, status={"enum": ["True", "False", "Unknown"]}),
    },
)
CONTAINER = closed(
    ["name"],
    name=DNS,
    image=TEXT,
    workingDir=TEXT,
    command={"type": "array", "items": TEXT},
    resources=closed([], requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts={"type": "array", "items": closed(["name", "mountPath"], name=DNS, mountPath=TEXT)},
)
POD = closed(
    ["containers"],
    restartPolicy={"enum": ["Never"]},  # of the three, podFailurePolicy allows this one
    terminationGracePeriodSeconds=COUNT,
    containers={"type": "array", "items": CONTAINER, "minItems": 1},
    volumes={
        "type": "array",
        "items": closed(["name"], name=DNS, persistentVolumeClaim=closed(["claimName"], claimName=TEXT)),
    },
)
JOB = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "batch/v1"},
    kind={"const": "Job"},
    metadata=closed(["name"], name=DNS, labels=LABELS),
    spec=closed(
        ["template"],
        completionMode={"enum": ["Indexed"]},  # backoffLimitPerIndex takes no other
        completions=COUNT,
        parallelism=COUNT,
        backoffLimitPerIndex=COUNT,
        maxFailedIndexes=COUNT,
        podFailurePolicy=closed(["rules"], rules={"type": "array", "items": RULE, "maxItems": 20}),
        template=closed([], metadata=closed([], labels=LABELS), spec=POD),
    ),
)
TASK = closed(
    [],
    name={"type": "string", "pattern": r"^[a-zA-Z0-9]+(?:[._-]{1,2}[a-zA-Z0-9]+)*$"},
    num_nodes={"type": "integer", "minimum": 1},
    resources=closed(
        [],
        cpus={"type": ["string", "number"]},
        memory={"type": ["string", "number"]},
        accelerators={"type": "string", "pattern": r"^[\w-]+(:\d+)?$"},
        image_id=TEXT,
        use_spot={"type": "boolean"},
        job_recovery=closed(
            [],
            strategy=TEXT,
            max_restarts_on_errors=COUNT,
            recover_on_exit_codes={"type": "array", "uniqueItems": True, "items": {"type": "integer", "maximum": 255}},
        ),
    ),
    file_mounts={
        "type": "object",
        "additionalProperties": closed([], source=TEXT, mode={"enum": ["MOUNT", "COPY", "MOUNT_CACHED"]}),
    },
    setup={"type": "string"},
    run={"type": "string"},
)
SBATCH = {
    *("account", "array", "chdir", "comment", "cpus-per-task", "gpus-per-node", "job-name", "mem", "nodes", "output"),
    *("ntasks-per-node", "open-mode", "partition", "qos", "requeue", "signal", "time"),
}


def rendered(what: str, settings: SlurmSettings = SETTINGS, **changes: Any) -> Any:
    return yaml.safe_load(RENDERERS[what](settings, replace(WORKERS, **changes)))


@pytest.mark.parametrize("changes", [{"gpus": 0}, {"memory": None}, {"setup": ()}, {"time": 90}])
@pytest.mark.parametrize(("what", "schema"), [("k8s", JOB), ("skypilot", TASK)])
def test_a_rendered_document_fits_its_schema(what: str, schema: dict[str, Any], changes: dict[str, Any]) -> None:
    jsonschema.validate(rendered(what, replace(SETTINGS, **changes), study="study"), schema)


def test_the_schemas_refuse_what_they_should() -> None:
    job = rendered("k8s")
    job["spec"]["backoffLimitPerIndx"] = 1
    with pytest.raises(jsonschema.ValidationError, match="backoffLimitPerIndx"):
        jsonschema.validate(job, JOB)


def test_a_job_counts_ends_by_the_worker_s_exit_codes() -> None:
    spec = rendered("k8s")["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (7, 7, "Indexed")
    rules = spec["podFailurePolicy"]["rules"]
    by_code = {rule["onExitCodes"]["values"][0]: rule["action"] for rule in rules if "onExitCodes" in rule}
    assert by_code == {START_AGAIN: "Ignore", FAILURES_LEFT: "FailIndex", MISTAKE: "FailJob"}
    assert NOTHING_LEFT == 0  # success, of which no rule speaks
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_every_text_starts_the_same_worker() -> None:
    (container,) = rendered("k8s")["spec"]["template"]["spec"]["containers"]
    lines = container["command"][-1].splitlines()
    worker = "exec python -m scaling.cli worker '/data/runs/My study_1' --until +240"
    assert lines == ["source .venv/bin/activate", worker]
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "2"}
    task = rendered("skypilot")
    assert task["run"].splitlines() == ["cd /data", *lines]
    assert task["resources"]["accelerators"] == "H100:2"
    assert task["resources"]["memory"] == "32+"
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [START_AGAIN]
    assert "worker '/data/runs/My study_1' --until" in RENDERERS["sbatch"](SETTINGS, WORKERS)


def test_a_batch_script_has_options_of_sbatch_alone_and_is_bash() -> None:
    text = RENDERERS["sbatch"](SETTINGS, WORKERS)
    found = re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE)
    assert found
    assert set(found) <= SBATCH
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("memory", "k8s", "gib"), [("32G", "32Gi", 32.0), ("512", "512Mi", 0.5), ("2T", "2Ti", 2048.0), ("8gb", "8Gi", 8.0)]
)
def test_memory_has_units_of_1024(memory: str, k8s: str, gib: float) -> None:
    assert in_bytes(memory) == k8s
    assert in_gibibytes(memory) == gib


@pytest.mark.parametrize(
    ("what", "changes", "settings", "message"),
    [
        ("k8s", {"image": None}, {}, "--image is missing: give a container image"),
        ("k8s", {"storage": None}, {}, "--storage is missing: give the PersistentVolumeClaim that holds /data"),
        ("skypilot", {"storage": None}, {}, "--storage is missing: give the URL of the bucket"),
        ("skypilot", {"gpu": None}, {}, "--gpu is missing: give a kind of GPU"),
        ("k8s", {}, {"memory": "much"}, "hydra.launcher.memory=much: give megabytes"),
        ("k8s", {}, {"nodes": 2}, "hydra.launcher.nodes=2: a worker here has one node"),
    ],
)
def test_what_is_missing_is_named(what: str, changes: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RENDERERS[what](replace(SETTINGS, **settings), replace(WORKERS, **changes))


def test_the_command_renders_a_planned_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(tmp_path, monkeypatch, "seed=0,1,2", "budget.flops=2e8")
    capsys.readouterr()
    asked = ["launch", str(STUDY), "--render"]
    assert main([*asked, "sbatch", "hydra.launcher.gpus=0", "hydra.launcher.array_parallel=2"]) == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-1\n" in printed
    assert str(STUDY.resolve()) in printed
    assert main([*asked, "k8s", "--image", "i", "--storage", "runs"]) == 0
    jsonschema.validate(yaml.safe_load(capsys.readouterr().out), JOB)
    assert main([*asked, "helm"]) == 2
    assert "unknown --render 'helm': choose from k8s, sbatch, skypilot" in capsys.readouterr().err
    assert main([*asked, "sbatch", "seed=1"]) == 2
    assert "launch takes no setting but those of workers" in capsys.readouterr().err
