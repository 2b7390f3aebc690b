"""Separators and decimals of tables: every mark that people use is read, and each reading is stated."""

from itertools import product
from pathlib import Path

import pytest

from scaling.analysis.runs.files import read_file

ROWS = [(47_600_000, 10_500_000_000, 3.0125, 3e-4), (90_000_000, 5_500_000_000, 2.99, 6e-4)]
HEADER = ("params", "tokens", "loss", "lr")


def table(separator: str, comma: bool) -> str:
    cells = [[f"{n / 1e6:.1f}M", f"{d / 1e9:.2f}B", f"{loss:.4f}", f"{lr:.4f}"] for n, d, loss, lr in ROWS]
    if comma:
        cells = [[f'"{cell}"'.replace(".", ",") for cell in row] for row in cells]
    return "\n".join(separator.join(row) for row in [HEADER, *cells]) + "\n"


@pytest.mark.parametrize(("separator", "comma"), [*product(",;\t", (False, True))])
def test_every_separator_and_decimal_mark_gives_the_same_numbers(tmp_path: Path, separator: str, comma: bool) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(table(separator, comma))
    reading = read_file(path)
    assert list(reading.table["loss"]) == [3.0125, 2.99]
    assert list(reading.table["lr"]) == [3e-4, 6e-4]
    assert list(reading.table["params"]) == ["47.6M", "90.0M"]
    words = {",": "", ";": "separated by semicolons", "\t": "separated by tabs"}[separator]
    stated = "; ".join(reading.inferred)
    assert words in stated
    assert ("decimal commas: '47,6M' is read as 47.6M" in stated) == comma
    assert len(reading.inferred) == bool(words) + comma


def test_a_point_among_decimal_commas_separates_thousands(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params;tokens;loss\n47.600.000;1.234;3,142\n90.000.000;5.500;2,9951\n")
    assert read_file(path).table.to_numpy().tolist() == [[47_600_000, 1_234, 3.142], [90_000_000, 5_500, 2.9951]]


@pytest.mark.parametrize("lr", ["0.0003", ".5", "3.1e-4"])
def test_points_and_commas_that_are_both_decimal_are_refused(tmp_path: Path, lr: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"params;loss;lr\n47;3,1425;{lr}\n")
    with pytest.raises(ValueError, match=rf"'lr' has decimal points, as in '{lr}', and others have decimal commas"):
        read_file(path)


@pytest.mark.parametrize("cell", ["1,300,000", "12,345", "a,b", "0,1,2", "v1,25"])
def test_commas_that_may_be_no_decimals_stay(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f'params,loss\n"{cell}",3.1\n')
    reading = read_file(path)
    assert list(reading.table["params"]) == [cell]
    assert not reading.inferred


def test_a_quoted_header_with_other_marks_keeps_its_separator(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text('"params; all; of; them",loss\n1,3.5\n')
    assert list(read_file(path).table.columns) == ["params; all; of; them", "loss"]
