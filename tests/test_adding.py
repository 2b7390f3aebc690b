"""The files that an addition touches, counted in a copy of the checkout, which then plans, trains and tests it.

A row for another kind of addition is a test that edits `copied`, compares `touched` and runs the result.
"""

import filecmp
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaling.config.config import compose, to_run
from scaling.records.record import read_records

ROOT = Path(__file__).parents[1]
TINY = [
    "data=synthetic",
    "data.source.tokens=20000",
    "model.n_layers=1",
    "model.d_model=16",
    "budget.flops=1e8",
    "runtime.threads=1",
]


@dataclass(frozen=True)
class Copied:
    """A copy of the checkout's files, and an empty folder to run it from."""

    root: Path
    work: Path

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands exactly once in a file of the copy."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, f"{path} has {text.count(old)} times {old!r}"
        (self.root / path).write_text(text.replace(old, new))

    def add(self, path: str, text: str) -> None:
        """Write a file that the checkout does not have."""
        assert not (self.root / path).exists()
        (self.root / path).write_text(text)

    def touched(self) -> set[str]:
        """Files of the copy that the checkout does not have, or has otherwise."""
        files = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        names = {str(path) for path in files if path.parts[0] != ".hypothesis"}  # which tests write
        return {name for name in names if not _same(self.root / name, ROOT / name)}

    def scaling(self, *arguments: str) -> str:
        """The output of a `scaling` command of the copy, which must succeed."""
        return self._python(self.work, "-m", "scaling.cli", *arguments)

    def tests(self, *arguments: str) -> str:
        """The output of tests of the copy, which must pass."""
        return self._python(self.root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def _python(self, cwd: Path, *arguments: str) -> str:
        paths = [str(self.root), str(self.root / "scaling" / "plugins")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    if not (ROOT / ".git").exists():
        pytest.skip("the files of the checkout are git's to list")
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = Copied(tmp_path / "copy", tmp_path / "work")
    found.work.mkdir()
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(ROOT / name):  # git still lists a file that was deleted since
            (found.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, found.root / name, follow_symlinks=False)
    return found


@pytest.mark.long
def test_a_model_option_touches_three_files(copied: Copied) -> None:
    shape, plain, layers = "scaling/shapes/shape.py", "conf/model/plain.yaml", "scaling/model/layers.py"
    copied.edit(
        shape, "    dropout: float\n", '    dropout: float\n    qk_norm: bool = field(metadata={"before": False})\n'
    )
    copied.edit(plain, "family: {}", "qk_norm: false  # true: queries and keys are normed\nfamily: {}")
    own = "        self.causal, self.dropout = tower.causal, shape.dropout\n"
    copied.edit(layers, own, own + "        self.qk_norm = shape.qk_norm\n")
    turned = "            q_BHTK, k_BGTK = rotary(q_BHTK, start), rotary(k_BGTK, start)\n"
    normed = "            q_BHTK, k_BGTK = (F.rms_norm(x, x.shape[-1:]) for x in (q_BHTK, k_BGTK))\n"
    copied.edit(layers, turned, f"{turned}        if self.qk_norm:\n{normed}")
    assert copied.touched() == {shape, plain, layers}

    before = to_run(compose(TINY)).spec.run_id  # a run without the option is the run from before it
    planned = copied.scaling("plan", *TINY, "model.qk_norm=false,true")
    assert "qk_norm" in planned
    assert before in planned
    copied.scaling("train", "-m", "hydra/launcher=in_process", *TINY, "model.qk_norm=false,true")
    records = {record.spec["model"].get("qk_norm"): record for record in read_records(copied.work / "runs" / "default")}
    assert records.keys() == {None, True}
    assert records[None].run_id == before
    assert records[None].val_loss_nats != records[True].val_loss_nats

    copied.tests("tests/spec/test_run_spec.py", "tests/shapes/test_shape.py")
    assert copied.touched() == {shape, plain, layers}


LAW = '''@dataclass(frozen=True)
class SquareRoot(Law):
    """A law whose loss falls with the square root of the tokens."""

    name: ClassVar = "square_root"
    variables: ClassVar = ("N", "D")
    equation: ClassVar = "L = E + A / N^alpha + B / D^0.5"
    source: ClassVar = "a test"
    example: ClassVar = {"E": 1.8, "A": 480.0, "B": 2e4, "alpha": 0.35}
    domain: ClassVar = {"N": N_RANGE, "D": D_RANGE}

    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "N": p["alpha"]})
    B: Any = amplitude(lambda p: {"L": 1.0, "D": 0.5})
    alpha: Any = exponent()

    def formula(self, N: Any, D: Any) -> Any:
        return self.E + self.A * N**-self.alpha + self.B * D**-0.5


'''


def test_a_law_touches_one_file(copied: Copied) -> None:
    laws = "analysis/laws/size_and_data.py"
    copied.edit(laws, "SIZE_AND_DATA: ", f"{LAW}SIZE_AND_DATA: ")
    copied.edit(laws, "Tied, LearningRate)", "Tied, LearningRate, SquareRoot)")
    assert copied.touched() == {laws}

    rows = [(N, D, 1.8 + 480 * N**-0.35 + 2e4 * D**-0.5) for N in (1e7, 4e7, 2e8, 1e9) for D in (2e9, 1e10, 8e10)]
    text = "\n".join(f"{N:.0f},{D:.0f},{loss:.9f}" for N, D, loss in rows)
    (copied.work / "runs.csv").write_text(f"params,tokens,loss\n{text}\n")
    options = ("--law", "square_root", "--bootstrap", "0", "--holdout", "none", "--out", "out")
    copied.scaling("report", "runs.csv", *options)
    (fit,) = json.loads((copied.work / "out" / "results.json").read_text())["fits"]
    assert fit["params"] == pytest.approx({"E": 1.8, "A": 480.0, "B": 2e4, "alpha": 0.35}, rel=1e-3)
    assert '"square_root": (p, x) =>' in (copied.work / "out" / "report.html").read_text()  # the calculator's formula

    copied.tests("tests/analysis/laws", "-k", "square_root")
    assert copied.touched() == {laws}


OBJECTIVE = '''@dataclass(frozen=True)
class EveryOther(Objective):
    """Causal language modelling of every other token, or of fewer."""

    stride: int
    families = ("decoder",)

    def lengths(self, context: int) -> Lengths:
        return Lengths(text=context, predicted=context)


'''
EVERY_OTHER = '''def every_other(spec: RunSpec, chunk_BS: Chunk, draws: Draws, text: TokenText | None) -> Batch:
    """Predict a token in every `stride` from the tokens before it, from a start that is drawn."""
    stride, (sequences, tokens) = spec.objective.stride, chunk_BS[:, 1:].shape
    weights_BT = (np.arange(tokens) + draws.below(stride, sequences)[:, None]) % stride == 0
    return batch_of((chunk_BS[:, :-1],), chunk_BS[:, 1:], weights_BT)


'''


@pytest.mark.long
def test_an_objective_touches_three_files(copied: Copied) -> None:
    settings, batches = "scaling/spec/objective.py", "scaling/objectives/objectives.py"
    preset = "conf/objective/every_other.yaml"
    copied.edit(settings, "def asks_next_sentence(", f"{OBJECTIVE}def asks_next_sentence(")
    copied.edit(
        settings, '    "infilling": Infilling,\n', '    "infilling": Infilling,\n    "every_other": EveryOther,\n'
    )
    copied.edit(batches, "Function = Callable[", f"{EVERY_OTHER}Function = Callable[")
    copied.edit(
        batches, '    "infilling": infilling,\n', '    "infilling": infilling,\n    "every_other": every_other,\n'
    )
    copied.add(preset, "# Causal language modelling of every other token.\nkind: every_other\nstride: 2\n")
    assert copied.touched() == {settings, batches, preset}

    copied.scaling("train", "-m", "hydra/launcher=in_process", *TINY, "objective=causal,every_other")
    causal, other = sorted(read_records(copied.work / "runs" / "default"), key=lambda r: r.spec["objective"]["kind"])
    assert other.spec["objective"] == {"kind": "every_other", "stride": 2}
    assert (causal.status, other.status) == ("done", "done")
    assert causal.val_loss_nats != other.val_loss_nats

    copied.tests("tests/objectives", "-k", "every_other")
    assert copied.touched() == {settings, batches, preset}


TRACKER = '''"""Tracker `file`: rows in one file."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scaling.trackers.tracker import Attachments, TrackedRun


class FileTracker:
    """A tracker that writes rows to a file of its own."""

    settings: ClassVar[Sequence[str]] = ("path",)

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        self._lines: list[str] = []
        self.where = settings["path"]

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        self._lines.append(str(row["tokens"]))

    def attach(self, attachments: Attachments) -> None:
        pass

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        with open(self.where, "w") as file:
            file.write("\\n".join([*self._lines, status]))
'''


@pytest.mark.long
def test_a_tracker_touches_three_files(copied: Copied) -> None:
    tracker, trackers = "scaling/trackers/file.py", "scaling/trackers/__init__.py"
    preset = "conf/tracker/file.yaml"
    copied.add(tracker, TRACKER)
    copied.edit(
        trackers,
        "from scaling.trackers.mlflow import",
        "from scaling.trackers.file import FileTracker\nfrom scaling.trackers.mlflow import",
    )
    copied.edit(trackers, '    "wandb": WandbTracker,\n', '    "wandb": WandbTracker,\n    "file": FileTracker,\n')
    copied.add(
        preset,
        "# Tracker that writes rows to one file.\nnames: {file: true}\nsettings: {path: tracked.txt, tags: []}\n",
    )
    assert copied.touched() == {tracker, trackers, preset}

    assert "tracked.txt" in copied.scaling("train", *TINY, "tracker=file")
    *tokens, status = (copied.work / "tracked.txt").read_text().split("\n")
    (record,) = read_records(copied.work / "runs" / "default")
    assert status == "done"
    assert int(tokens[-1]) == record.train_tokens

    copied.tests("tests/trackers/test_trackers.py", "-k", "choices or preset")
    assert copied.touched() == {tracker, trackers, preset}


SOURCE = '''"""Documents of sums, as `17+25=42`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Sums:
    """Documents of all sums of two numbers up to a largest one."""

    kind: ClassVar[str] = "sums"
    largest: int

    def fingerprint(self, _memory: Path | None) -> str:
        return hashlib.sha256(f"sums {self.largest}".encode()).hexdigest()

    def content_bytes(self) -> int:
        return 8 * self.largest**2

    def documents(self) -> Iterator[str]:
        for a in range(self.largest):
            yield "".join(f"{a}+{b}={a + b}\\n" for b in range(self.largest))
'''


@pytest.mark.long
def test_a_data_source_touches_three_files(copied: Copied) -> None:
    source, sources, preset = "scaling/data/sums.py", "scaling/data/sources.py", "conf/data/sums.yaml"
    copied.add(source, SOURCE)
    copied.edit(
        sources,
        "from scaling.data.synthetic import",
        "from scaling.data.sums import Sums\nfrom scaling.data.synthetic import",
    )
    copied.edit(sources, "in (Stdlib, ", "in (Sums, Stdlib, ")
    copied.add(
        preset,
        "# Sums of two numbers.\ndefaults:\n  - plain\n  - _self_\nsource: {kind: sums, largest: 200}\n"
        "tokenizer: chars\nvocab_size: 32\nval_fraction: 0.1\n",
    )
    assert copied.touched() == {source, sources, preset}

    own = [setting for setting in TINY if not setting.startswith("data")]
    copied.scaling("train", *own, "data=sums", "val_tokens=8192")
    (record,) = read_records(copied.work / "runs" / "default")
    assert record.status == "done"
    assert record.val_loss_nats < math.log(32)

    copied.tests("tests/data/test_settings.py", "tests/data/test_split.py")
    assert copied.touched() == {source, sources, preset}


LAUNCHER = '''"""Launcher `backwards`: jobs run in this process, the last one first."""

from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.launch.in_process import InProcess
from scaling.launch.jobs import Job, Target


class Backwards:
    """A launcher that runs jobs in this process, the last one first."""

    def __init__(self, *, use_gpus: bool) -> None:
        self._launcher = InProcess(use_gpus=use_gpus)
        self.slots = self._launcher.slots

    def run(
        self, jobs: Sequence[Job], target: Target, log_dir: Path, preload: Sequence[str], show: Callable[[], None]
    ) -> None:
        self._launcher.run(jobs[::-1], target, log_dir, preload, show)
'''


@pytest.mark.long
def test_a_launcher_touches_three_files(copied: Copied) -> None:
    launcher, launchers = "scaling/launch/backwards.py", "scaling/launch/launchers.py"
    preset = "conf/hydra/launcher/backwards.yaml"
    copied.add(launcher, LAUNCHER)
    copied.edit(
        launchers,
        "from scaling.launch.in_process",
        "from scaling.launch.backwards import Backwards\nfrom scaling.launch.in_process",
    )
    copied.edit(launchers, '"in_process": InProcess}', '"in_process": InProcess, "backwards": Backwards}')
    copied.add(
        preset,
        (copied.root / "conf/hydra/launcher/in_process.yaml")
        .read_text()
        .replace("name: in_process", "name: backwards"),
    )
    assert copied.touched() == {launcher, launchers, preset}

    copied.scaling("train", "-m", "hydra/launcher=backwards", *TINY, "seed=0,1")
    study = copied.work / "runs" / "default"
    paths = {record.spec["seed"]: study / record.run_id / "record.json" for record in read_records(study)}
    assert paths[1].stat().st_mtime_ns < paths[0].stat().st_mtime_ns

    copied.tests("tests/launch/test_launchers.py", "-k", "backwards")
    assert copied.touched() == {launcher, launchers, preset}
