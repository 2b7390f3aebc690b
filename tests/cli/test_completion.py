"""Tab completion: the words that may end a line, and the scripts that ask for them."""

import shutil
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


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "given"),
    [("model=gp", "compadd -- model=gpt2"), ("model.norm_p", "compadd -S  -- model.norm_place="), ("x/", "_files")],
)
def test_zsh_is_given_whole_words_and_no_space_after_a_name_that_takes_a_value(typed: str, given: str) -> None:
    stubs = 'compdef() {}; compadd() { print -r -- compadd "$@" }; _files() { print _files }'
    line = f'words=(scaling train "{typed}"); CURRENT=3; PREFIX="{typed}"'
    script = f'{stubs}; PATH={SCALING.parent}:$PATH; eval "$(scaling completion zsh)"; {line}; _scaling'
    asked = subprocess.run(["zsh", "-fc", script], capture_output=True, text=True, check=True)
    assert given in asked.stdout.splitlines()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_a_preset() -> None:
    script = f"set PATH {SCALING.parent} $PATH; scaling completion fish | source; complete -C 'scaling train model=gp'"
    asked = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines() == ["model=gpt2"]
