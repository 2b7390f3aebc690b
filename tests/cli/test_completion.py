"""Tab completion: the words that may end a line, and the script that asks for them."""

import subprocess
from pathlib import Path

import pytest

from scaling.cli import main
from tests.test_pipeline import SCALING


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scaling pl", ["plan"]),
        ("scaling train --mu", ["--multirun"]),
        ("scaling plan --js", ["--json"]),
        ("scaling train model=gp", ["model=gpt2"]),
        ("scaling plan +sweep=quick", ["+sweep=quickstart"]),
        ("scaling train -m model=gpt2 model.norm", ["model.norm=", "model.norm_place="]),
        ("scaling plan data=text data.source.fi", ["data.source.field="]),
        ("scaling status run", [""]),
        ("scaling nonsense x", [""]),
    ],
)
def test_a_line_is_completed(line: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "query", line]) == 0
    assert capsys.readouterr().out.splitlines() == words


def test_presets_of_ones_own_are_completed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf" / "recipe").mkdir(parents=True)
    (tmp_path / "conf" / "recipe" / "mine.yaml").touch()
    assert main(["completion", "query", "scaling plan recipe=mi"]) == 0
    assert capsys.readouterr().out == "recipe=mine\n"


def test_bash_completes_what_follows_the_last_equals_sign() -> None:
    line = "scaling train model=gp"
    script = (
        f'eval "$({SCALING} completion bash)"; PATH={SCALING.parent}:$PATH; COMP_LINE="{line}"; COMP_POINT={len(line)}'
    )
    asked = subprocess.run(
        ["bash", "-c", f'{script}; _scaling; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=True
    )
    assert asked.stdout == "gpt2\n"
