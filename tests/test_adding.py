"""The files that an addition touches, counted in a copy of the checkout, which then plans, trains and tests it.

A row for another kind of addition is a test that edits `copied`, compares `touched` and runs the result.
"""

import filecmp
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
        names = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}
        return {name for name in names if not _same(self.root / name, ROOT / name)}

    def scaling(self, *arguments: str) -> str:
        """The output of a `scaling` command of the copy, which must succeed."""
        return self._python(self.work, "-m", "scaling.cli", *arguments)

    def tests(self, *paths: str) -> None:
        """Run tests of the copy, which must pass."""
        self._python(self.root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths)

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
