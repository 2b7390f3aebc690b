"""A study with damaged files: each is named, and the others are used."""

import json
from pathlib import Path

import pytest

from scaling.analysis.results.document import read
from scaling.cli import main
from scaling.plan.plan_file import read_plan, spending
from scaling.records.files import write_json
from scaling.records.record import read_records
from tests.analysis.simulated import write_study

LINE = {"run_id": "run00", "steps": 10, "train_flops": 1e9, "warnings": []}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of 28 finished runs with one damaged file of each kind."""
    folder = write_study(tmp_path / "study", points=6)
    (folder / "plan.jsonl").write_bytes(json.dumps(LINE).encode() + b'\n{"run_id": "run01", "st\nnull\n\xff\0\n')
    (folder / "run02" / "record.json").write_bytes(b"\0" * 512)
    (folder / "run03" / "record.json").write_text("[]")
    record = json.loads((folder / "run04" / "record.json").read_text())
    (folder / "run04" / "record.json").write_text(json.dumps(record | {"spec": None}))
    (folder / "run05" / "attempts" / "0001.bak").mkdir(parents=True)
    write_json(folder / "run06" / "profile.json", {})
    attempt = folder / "run07" / "attempts" / "0001"
    attempt.mkdir(parents=True, exist_ok=True)
    write_json(attempt / "meta.json", {"resumed_from_step": 0})
    row = json.dumps({"step": 1, "tokens": 5, "flops": 9, "train_loss": "much"})
    (attempt / "metrics.jsonl").write_bytes(b"\0" * 4096 + b"\nTraceback\n" + row.encode() + b"\n")
    (folder / "run08" / "record.json").unlink()
    (folder / "run08" / "spec.json").write_text("{}")
    ended = folder / "run08" / "attempts" / "0001"
    ended.mkdir(parents=True, exist_ok=True)
    write_json(ended / "meta.json", {"resumed_from_step": 0})
    write_json(ended / "end.json", {})
    return folder


DAMAGED = (
    "plan.jsonl, line 2, is no planned run",
    "plan.jsonl, line 3, is no planned run",
    "run02/record.json is not a run record",
    "run03/record.json is not a run record",
    "run04/record.json is not a run record (its spec is None)",
    "run06/profile.json is damaged",
    "run07/attempts/0001/metrics.jsonl, lines 1, 2 (2), are no metric row",
)


@pytest.mark.parametrize("command", ["fit", "report"])
def test_damaged_files_are_warnings_before_the_numbers_and_the_rest_is_used(
    command: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(study), "--bootstrap", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    results = read(study / "results.json")
    for part in DAMAGED:
        assert any(part in text for text in results["warnings"])
        (line,) = (line for line in lines if line.startswith("WARNING") and part in line)
        assert str(study) in line
    assert len(results["observations"]["loss"]) == 28 - 4
    assert "FLOPs planned in 1 runs" in lines[-1]


def test_the_status_of_a_study_names_its_damaged_files(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(study)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "line 2, is no planned run" in printed
    assert "4 failed" in printed
    assert "does not state how the attempt ended" in printed


def test_a_damaged_plan_and_record_leave_the_sums_of_the_others(study: Path) -> None:
    assert [line["run_id"] for line in read_plan(study)] == ["run00"]
    assert "1e+09 FLOPs planned in 1 runs" in spending(study)
    damaged: list[str] = []
    assert len(read_records(study, damaged)) == 28 - 4 + 1  # with the diverged run
    assert len(damaged) == 3
