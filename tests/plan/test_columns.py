"""Columns by width: a narrow terminal loses columns of the least use, and never the sense of a row."""

import io

import pytest

from scaling.plan.columns import Column, fitting, print_columns
from scaling.terminal import terminal

COLUMNS = [
    Column("run", ["a", "b"], False),
    Column("tokens", ["1.2M", "34k"], rank=1),
    Column("memory", ["12kB", "3kB"], rank=2),
    Column("never given", ["", ""]),
]


@pytest.mark.parametrize(
    ("width", "heads"),
    [(19, ["run", "tokens", "memory"]), (18, ["run", "tokens"]), (11, ["run", "tokens"]), (10, ["run"]), (1, ["run"])],
)
def test_the_least_useful_column_goes_first(width: int, heads: list[str]) -> None:
    assert [column.head for column in fitting(COLUMNS, width)] == heads


@pytest.mark.parametrize(("width", "left_out"), [("40", ""), ("18", "memory"), ("10", "tokens, memory")])
def test_a_table_states_what_it_leaves_out_and_breaks_no_line(
    width: str, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    out = io.StringIO()
    print_columns(COLUMNS, terminal(file=out), [("first", 1), ("second", 1)])
    head, rule, first, a, second, b, *rest = out.getvalue().split("\n")
    assert (first, a.split()[0], second, b.split()[0]) == ("first", "a", "second", "b")
    assert {len(head), len(rule), len(a), len(b)} == {len(head)}
    assert (f"no room for: {left_out} (19 columns show all)" if left_out else "") == " ".join(" ".join(rest).split())


def test_a_log_file_has_room_for_all() -> None:
    out = io.StringIO()
    print_columns([Column("x" * 30, ["1"], rank=1) for _ in range(4)], terminal(file=out))
    assert "no room" not in out.getvalue()
