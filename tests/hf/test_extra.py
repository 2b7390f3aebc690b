"""Without the extra `hf`."""

import sys
from pathlib import Path

import pytest

from scaling.cli import main


@pytest.mark.parametrize("command", [["import", "m", "train_tokens=1e6"], ["export", "runs/s/0", "--out", "m"]])
def test_without_transformers_the_remedy_is_said(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(command) == 2
    assert "pip install 'scaling-experiments[hf]'" in capsys.readouterr().err
