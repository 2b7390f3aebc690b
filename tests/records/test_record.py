"""Records and metrics on disk: whole, first come first served, readable after a kill."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.records.files import write_json
from scaling.records.record import SCHEMA, publish_record, read_metrics, read_record, read_records, to_json
from tests.examples import RECORD


def test_a_record_reads_back_as_written(tmp_path: Path) -> None:
    assert publish_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_the_first_record_stands(tmp_path: Path) -> None:
    assert publish_record(tmp_path, RECORD)
    assert not publish_record(tmp_path, replace(RECORD, val_loss_nats=0.1))
    assert read_record(tmp_path) == RECORD


def test_a_record_from_before_predictions_were_counted_predicted_its_every_token(tmp_path: Path) -> None:
    old = to_json(RECORD)
    del old["predicted_tokens"]
    write_json(tmp_path / "record.json", old)
    assert read_record(tmp_path) == replace(RECORD, predicted_tokens=RECORD.train_tokens)


def test_a_record_from_before_branches_paid_for_all_its_steps(tmp_path: Path) -> None:
    old = to_json(replace(RECORD, paid_flops=1))
    del old["paid_flops"], old["trunk"]
    write_json(tmp_path / "record.json", old)
    assert read_record(tmp_path) == replace(RECORD, paid_flops=RECORD.train_flops)


def test_a_record_from_before_next_sentences_were_scored_says_nothing_of_them(tmp_path: Path) -> None:
    old = to_json(RECORD)
    del old["val_next_loss_nats"]
    write_json(tmp_path / "record.json", old)
    assert read_record(tmp_path) == RECORD


def test_a_newer_schema_is_refused_and_unknown_fields_of_ours_are_not(tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", to_json(RECORD) | {"schema": SCHEMA + 1})
    with pytest.raises(ValueError, match="written by a newer version"):
        read_record(tmp_path)


def test_a_broken_record_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"schema": 1')
    with pytest.raises(ValueError, match=r"record\.json is not a run record.*move it away"):
        read_record(tmp_path)


def attempt(run_dir: Path, number: int, resumed_from: int, steps: range, tail: str = "") -> None:
    path = run_dir / "attempts" / f"{number:04d}"
    path.mkdir(parents=True)
    (path / "meta.json").write_text(json.dumps({"resumed_from_step": resumed_from}))
    rows = [json.dumps({"step": step, "attempt": number}) for step in steps]
    (path / "metrics.jsonl").write_text("".join(row + "\n" for row in rows) + tail)


def test_resumed_metrics_read_as_if_never_interrupted(tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0, range(1, 8), tail='{"step": 8, "att')  # killed while writing
    attempt(tmp_path, 2, 4, range(5, 7))
    attempt(tmp_path, 3, 6, range(7, 10))
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert [row["attempt"] for row in rows] == [1, 1, 1, 1, 2, 2, 3, 3, 3]


def test_only_finished_runs_have_records(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "spec.json", {})
    publish_record(tmp_path / "b", RECORD)
    assert read_records(tmp_path) == [RECORD]
    with pytest.raises(ValueError, match="is not a directory"):
        read_records(tmp_path / "missing")


def test_an_attempt_that_only_waited_supersedes_no_row(tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0, range(1, 6))
    attempt(tmp_path, 2, 0, range(0))
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("damage", [b"\0\0\0\0\n", b'{"step": 2, "at\n', b"null\n", b'{"loss": 3}\n', b"\xff\xfe\n"])
def test_a_damaged_line_is_named_and_the_others_are_read(damage: bytes, tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0, range(1, 2))
    path = tmp_path / "attempts" / "0001" / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + damage + b'{"step": 3}\n')
    damaged: list[str] = []
    assert [row["step"] for row in read_metrics(tmp_path, damaged)] == [1, 3]
    assert damaged == [f"{path}, line 2, is no metric row: left out"]


def test_a_damaged_meta_leaves_its_rows_out_by_name(tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0, range(1, 4))
    attempt(tmp_path, 2, 2, range(3, 6))
    (tmp_path / "attempts" / "0002" / "meta.json").write_text("null")
    damaged: list[str] = []
    assert [row["step"] for row in read_metrics(tmp_path, damaged)] == [1, 2, 3]
    assert "0002/meta.json is damaged" in damaged[0]


def test_one_damaged_record_does_not_blind_a_study(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "spec.json", {})
    publish_record(tmp_path / "a", RECORD)
    (tmp_path / "b" / "record.json").write_bytes(b"\0\0")
    with pytest.raises(ValueError, match=r"b/record\.json is not a run record"):
        read_records(tmp_path)
    damaged: list[str] = []
    assert read_records(tmp_path, damaged) == [RECORD]
    assert len(damaged) == 1


def test_a_record_is_published_once_where_there_are_no_links_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    assert publish_record(tmp_path, RECORD)
    assert not publish_record(tmp_path, replace(RECORD, val_loss_nats=0.1))
    assert read_record(tmp_path) == replace(RECORD, publication="reservation")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
