"""Metric rows as columns: the rows of `read_metrics`, whatever their files hold."""

import json
import math
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.records import metric_columns
from scaling.records.metric_columns import read_columns
from scaling.records.record import read_metrics
from tests.records.test_record import attempt

NAMES = ("step", "flops", "train_loss", "val_loss")
LINES = (
    b'{"step": 1, "flops": 100, "train_loss": 4.5, "lr": 0.1}',
    b'{"step": 2, "flops": 123456789012345678901234567890, "train_loss": 0.30000000000000004, "words": "two"}',
    b'{"step": 3, "flops": null, "train_loss": 5e-324, "val_loss": -0.0}',
)


def write(run_dir: Path, content: bytes) -> Path:
    attempt(run_dir, 1, 0, range(0))
    path = run_dir / "attempts" / "0001" / "metrics.jsonl"
    path.write_bytes(content)
    return path


def by_rows(run_dir: Path, damaged: list[str]) -> list[list[float]]:
    """The same numbers from `read_metrics`, one by one."""
    rows = [[row.get(name) for name in NAMES] for row in read_metrics(run_dir, damaged)]
    return [[float(one) if isinstance(one, int | float) else math.nan for one in row] for row in rows]


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    write(tmp_path, b"\n".join(LINES) + b'\n{"step": 4, "tra')  # killed while writing
    expected = [[1, 100, 4.5, math.nan], [2, 123456789012345678901234567890.0, 0.1 + 0.2, math.nan]]
    found = read_columns(tmp_path, NAMES, [])
    np.testing.assert_array_equal(found, [*expected, [3, math.nan, 5e-324, -0.0]])
    assert math.copysign(1, found[2, 3]) == -1


def test_resumed_attempts_supersede_rows_beyond_their_start_and_damaged_ones_are_named(tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0, range(1, 8))
    attempt(tmp_path, 2, 4, range(5, 7))
    attempt(tmp_path, 3, 6, range(7, 10))
    attempt(tmp_path, 4, 9, range(0))
    numbers = read_columns(tmp_path, ("attempt", "step"), [])
    assert numbers.tolist() == [[row["attempt"], row["step"]] for row in read_metrics(tmp_path)]
    (tmp_path / "attempts" / "0003" / "meta.json").write_text("null")
    damaged: list[str] = []
    assert read_columns(tmp_path, ("attempt", "step"), damaged)[:, 1].tolist() == [1, 2, 3, 4, 5, 6]
    assert "0003/meta.json is damaged" in damaged[0]


def test_a_run_without_rows_has_none(tmp_path: Path) -> None:
    assert read_columns(tmp_path, NAMES, []).shape == (0, 4)
    write(tmp_path, b"")
    assert read_columns(tmp_path, NAMES, []).shape == (0, 4)


@pytest.mark.parametrize(
    "line",
    [
        *(b'{"step": 2, "train_loss": NaN}', b'{"step": 2, "train_loss": -Infinity}', b'{"step": 2, "flops": 1e400}'),
        *(b'{"step": 2, "train_loss": [1]}', b'{"step": 2, "train_loss": {"a": 1}}', b'{"step": 2, "flops": true}'),
        *(b'{"step": 2.0}', b'{"flops": 3}', b"null", b"[2]", b"", b'{"step": 2}{"step": 3}', b'{"step": 2', b"\xff"),
    ],
)
def test_lines_that_the_decoder_refuses_are_read_as_python_reads_them(line: bytes, tmp_path: Path) -> None:
    write(tmp_path, b"\n".join([LINES[0], line, LINES[2], b""]))
    damaged: tuple[list[str], list[str]] = ([], [])
    np.testing.assert_array_equal(read_columns(tmp_path, NAMES, damaged[0]), by_rows(tmp_path, damaged[1]))
    assert damaged[0] == damaged[1]


@given(place=st.integers(0, sum(map(len, LINES)) + 2), byte=st.sampled_from(string.printable.encode()))
def test_any_other_character_anywhere_is_read_as_python_reads_it(
    place: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(b"\n".join(LINES) + b"\n")
    content[place] = byte
    run_dir = tmp_path_factory.mktemp("run")
    write(run_dir, bytes(content))
    damaged: tuple[list[str], list[str]] = ([], [])
    np.testing.assert_array_equal(read_columns(run_dir, NAMES, damaged[0]), by_rows(run_dir, damaged[1]))
    assert damaged[0] == damaged[1]


def test_whole_files_are_read_by_the_decoder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": step, "flops": 10 * step, "train_loss": 1 / step} for step in range(1, 200)]
    write(tmp_path, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    monkeypatch.setattr(metric_columns, "metric_rows", None)
    np.testing.assert_array_equal(read_columns(tmp_path, NAMES[:3], []), [list(row.values()) for row in rows])
