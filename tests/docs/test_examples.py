"""Every file of examples/ and every Python block of the documents runs, and gives what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.analysis.laws import LAWS
from scaling.records.record import read_records
from tests.docs.documents import NAMES, ROOT, blocks
from tests.docs.test_commands import write_inputs

EXAMPLES = ROOT / "examples"
INTERVAL = re.compile(r"(\w+) = (\S+) \[(\S+), (\S+)\], simulated from (\S+)")


def output(example: str, folder: Path) -> str:
    """What an example prints when it is run in a folder."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / example)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'output\("(\w+\.py)"', Path(__file__).read_text()))
    assert tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_own_law_recovers_its_parameters(tmp_path: Path) -> None:
    found = INTERVAL.findall(output("own_law.py", tmp_path))
    assert {name for name, *_ in found} == {"E", "A", "B", "alpha"}
    for name, value, low, high, truth in found:
        assert float(low) <= float(truth) <= float(high), name
        assert float(value) == pytest.approx(float(truth), rel=0.25), name


def test_own_csv_gives_an_interval_that_holds_the_truth(tmp_path: Path) -> None:
    answer = re.search(r"\nat (\S+) FLOPs: N\* \S+ \[(\S+), (\S+)\]", output("own_csv.py", tmp_path))
    assert answer
    flops, low, high = map(float, answer.groups())
    assert low <= LAWS["chinchilla"](**LAWS["chinchilla"].example).optimum(C=flops).N <= high
    assert (tmp_path / "own_csv.png").stat().st_size > 10_000


def test_own_data_source_trains_two_runs_to_their_records(tmp_path: Path) -> None:
    output("own_data_source.py", tmp_path)
    records = read_records(tmp_path / "runs" / "sums")
    assert [record.status for record in records] == ["done", "done"]
    assert len({record.n_params["total"] for record in records}) == 2


def test_own_axes_writes_a_figure(tmp_path: Path) -> None:
    assert "figure: own_axes.png" in output("own_axes.py", tmp_path)
    assert (tmp_path / "own_axes.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("document", [name for name in NAMES if any(b.language == "python" for b in blocks(name))])
def test_python_blocks_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks(document):
        if block.language == "python":
            exec(compile(block.text, f"{document}:{block.line}", "exec"), {})
