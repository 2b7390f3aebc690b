"""The command line as its user meets it."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from scaling.analysis.runs.choices import Choices
from scaling.cli import main
from scaling.cli.parsers import parsers

COMMANDS = (
    "plan",
    "tune",
    "train",
    "worker",
    "retry",
    "cancel",
    "gc",
    "archive",
    "status",
    "bench",
    "fit",
    "predict",
    "curves",
    "report",
    "import",
    "finetune",
    "export",
    "profile",
    "check-transfer",
    "completion",
)


def help_of(*command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as leaving:
        main([*command, "--help"])
    assert leaving.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_subcommand_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys=capsys)
    for command in COMMANDS:
        assert len(re.findall(rf"^    {command} +\S", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_ends_with_two_or_three_examples_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, examples = help_of(command, capsys=capsys).partition("examples:\n")
    lines = examples.strip().splitlines()
    assert len(lines) in (2, 3)
    for line in lines:
        assert shlex.split(line)[:2] == ["scaling", command]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["plan", "model.n_heads=7"], "does not divide"),
        (["plan", "+sweep=quickstrat"], "quickstrat"),
        (["status", "runs/none"], "runs/none is not a directory"),
        (["fit", "none.csv"], "none.csv"),
        (["predict", "none.json", "--flops", "1e9"], "none.json"),
    ],
)
def test_mistakes_end_in_one_clear_line(
    command: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.startswith(f"scaling {command[0]}: ")


def test_an_option_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["status", "runs/x", "--fast"])
    assert leaving.value.code == 2
    assert "unrecognized arguments: --fast" in capsys.readouterr().err


def test_overrides_may_stand_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "+sweep=quickstart", "--flops", "1e9", "recipe.optimizer=adam"]) == 2
    assert "unknown recipe.optimizer 'adam'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["plan"], ["train"], ["tune"]])
def test_help_lists_the_presets_that_there_are(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"\n {9,}", " ", help_of(*command, capsys=capsys))  # lists that go on in a second line
    for start, name in (("+sweep=", "mine"), ("+sweep=", "quickstart"), ("model=", "llama"), ("data=", "text")):
        assert re.search(rf"^  {re.escape(start)} +.*\b{name}\b", text, re.MULTILINE), start
    assert "plain" not in text


def test_hydras_own_completion_is_refused_with_the_command_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-sc", "install=bash"]) == 2
    assert "scaling completion bash" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "report"])
def test_each_choice_of_the_reader_is_an_option(command: str) -> None:
    options = vars(parsers()[0].parse_args([command, "runs.csv"]))
    assert {one.name for one in fields(Choices)} - {"curves", "own_columns", "any_sign"} <= set(options)


def test_options_of_tables_reach_the_reader_and_their_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{run},{1e8 * run:.0f},1e10,{40 - run}" for run in range(1, 6)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["who,N,D,score", *rows]))
    point = ["--bootstrap", "0", "--holdout", "none", "--law", "power:N"]
    read = ["--run", "who", "--rename", "score=val_ppl", "--loss-unit", "perplexity"]
    assert main(["fit", str(path), *point, *read]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"inferred: {path}: params = column 'N'" in lines
    assert any("its logarithm" in line for line in lines)
    assert main(["fit", str(path), *point, "--rename", "score"]) == 2
    assert "--rename 'score' is not OLD=NEW" in capsys.readouterr().err
    assert main(["fit", str(path), *point, *read, "--by", "lr"]) == 2
    assert "--by 'lr' is not a column of" in capsys.readouterr().err
