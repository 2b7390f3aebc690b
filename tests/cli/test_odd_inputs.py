"""Odd folders, settings and streams: refused in one line before anything starts, or no trouble at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.cli import main
from tests.test_pipeline import SCALING, TINY, scaling

ODD = "a ü (b) = {c, d' [e"


def test_configs_of_ones_own_are_found_in_a_folder_of_any_name(tmp_path: Path) -> None:
    (tmp_path / ODD / "conf" / "recipe").mkdir(parents=True)
    (tmp_path / ODD / "conf" / "recipe" / "mine.yaml").write_text("defaults: [default, _self_]\nbeta1: 0.5\n")
    found = scaling("plan", *TINY, "recipe=mine", "budget.flops=1e8", cwd=tmp_path / ODD)
    assert found.returncode == 0, found.stderr
    trained = scaling("train", *TINY, "recipe=mine", "budget.flops=1e7,2e7", "-m", cwd=tmp_path / ODD)
    assert trained.returncode == 0, trained.stderr


SWEEPER = "unknown setting of hydra.sweeper"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+bugdets=[1e9]"], "unknown setting 'bugdets': did you mean 'budget'? choose from +sweep, budget"),
        (["+sweeps=smoke"], "unknown setting 'sweeps': did you mean '+sweep'?"),
        (["+sweep=smok"], "unknown sweep 'smok': did you mean 'smoke'? choose from"),
        (["+sweep=slp"], "unknown sweep 'slp': did you mean 'slip'? choose from"),  # a file of one's own
        (["hydra/launcher=slrum"], "unknown hydra/launcher 'slrum': did you mean 'slurm'? choose from"),
        (
            ["+sweep=low"],
            "In 'sweep/low': its settings lie below 'sweep', where nothing reads them; let the file begin with #",
        ),
        (
            ["+hydra.launcher.slotz=3"],
            "unknown setting of hydra.launcher 'slotz': did you mean 'slots'? choose from _t",
        ),
        (["hydra.launcher.slots=abc"], "hydra.launcher.slots=abc: must be a whole number, or null"),
        (["hydra.launcher.slots=true"], "hydra.launcher.slots=True: must be a whole number, or null"),
        (["hydra/launcher=slurm", "hydra.launcher.gpus=1.5"], "hydra.launcher.gpus=1.5: must be a whole number"),
        (["hydra/launcher=slurm", "hydra.launcher.cpus=null"], "hydra.launcher.cpus=None: must be a whole number"),
        (["hydra/launcher=slurm", "hydra.launcher.wait=no way"], "hydra.launcher.wait=no way: must be true or false"),
        (["hydra/launcher=slurm", "hydra.launcher.setup=module load x"], "module load x: must be a list, as [a,b]"),
        (["+sweep=slip"], "In 'sweep/slip': unknown setting 'bugdet': did you mean 'budget'?"),
        (["bugdets=[1e9]"], "unknown setting 'bugdets': did you mean 'budget'?"),
        (["hydra.sweeper.bugdets=[1e9]"], f"{SWEEPER} 'bugdets': did you mean 'budgets'?"),
        (["+hydra.sweeper.bugdets=[1e9]"], f"{SWEEPER} 'bugdets': did you mean 'budgets'?"),
        (["+sweep=mine"], f"{SWEEPER} 'bugdets': did you mean 'budgets'?"),
        (["hydra.sweeper.sizes={cuont: 1}"], "unknown setting of sizes 'cuont': did you mean 'count'?"),
        (["hydra.sweeper.shapes=[{n_layer: 2}]"], "unknown setting of model 'n_layer': did you mean 'n_layers'?"),
        (
            ["hydra.sweeper.shapes=[{d_modle: 2, n_heads: 2}]"],
            "unknown setting of model 'd_modle': did you mean 'd_model'?",
        ),
        (["hydra.sweeper.shapes=[{n_layers.x: 2}]"], "model.n_layers: "),
        (["hydra.sweeper.shapes=[{family.x: 2}]"], "unknown setting of model.family 'x'"),
        (["hydra.sweeper.shapes=[{'n layers': 2}]"], "n layers"),
        (["+hydra.sweeper.axes={sede: [0, 1]}"], "unknown setting 'sede': did you mean 'seed'?"),
        (
            ["objective.whole_wrods=true", "model=bert"],
            "'whole_wrods': did you mean 'whole_words'?",
        ),
        (["model.n_layers=two"], "model.n_layers=two: Value 'two' of type 'str' could not be converted to Integer"),
        (["seed=1", "seed=2"], "seed is given twice, as seed=1 and as seed=2: keep one"),
        (["study=../../x"], "study=../../x: its folder would not lie inside runs_dir: give a name, as study=x"),
        (["study=/x/y"], "study=/x/y: its folder would not lie inside runs_dir: give a name, as study=y"),
        (
            ["seed=range(0,1000)", "recipe.beta1=range(0,1000)"],
            "1,000 seed x 1,000 recipe.beta1 = 1,000,000 cells, over the limit of 100,000",
        ),
        (["seed=range(0,1000000000)"], "over the limit of 100,000"),
    ],
)
def test_odd_settings_are_refused_with_the_choices(
    overrides: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    top = "# @package _global_\n"
    sweeps = {"mine": f"{top}hydra: {{sweeper: {{bugdets: [1e9]}}}}", "slip": f"{top}bugdet: {{flops: 1}}"}
    sweeps["low"] = "seed: 3"
    for name, text in sweeps.items():
        (tmp_path / "conf" / "sweep" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *TINY, *overrides]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scaling plan: ")
    assert message in line


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.n_heads=7"], "model.n_heads=7 does not divide"),
        (["modle.n_heads=7"], "unknown setting 'modle': did you mean 'model'?"),
        (["+modle.n_heads=7"], "unknown setting 'modle': did you mean 'model'?"),
        (["seed=1", "seed=2"], "seed is given twice"),
        (["study=../x"], "study=../x: its folder would not lie inside runs_dir"),
        (["hydra.run.dir=elsewhere"], "hydra.run.dir=elsewhere: the runs of a study lie in runs_dir/study"),
        (["hydra.sweep.dir=elsewhere"], "choose the folder with runs_dir=DIR study=NAME"),
    ],
)
def test_one_run_and_a_sweep_refuse_mistakes_in_one_line(
    overrides: list[str], message: str, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    refused = scaling("train", *TINY, *overrides, *flags, cwd=tmp_path / "here")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("scaling train: ")
    assert message in line
    assert {path.name for path in tmp_path.rglob("*")} <= {"here", "runs", "default"}


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runtime.device=cuda"], "runtime.device=cuda, but"),
        (
            ["data=text", "data.source.paths=[corpus.txt]", "data.tokenizer=bpe", "data.vocab_size=20"],
            "tokenizer bpe needs vocab_size of at least 257",
        ),
    ],
)
def test_mistakes_that_only_training_finds_are_one_line_too(
    overrides: list[str], message: str, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text("a text of a few words\n" * 2000)
    refused = scaling("train", "budget.flops=1e9", *overrides, *flags, cwd=tmp_path)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("scaling train: ")
    assert message in last


def test_folders_of_hydra_in_a_file_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text("# @package _global_\nhydra: {sweep: {subdir: x}}\n")
    for command in (["plan"], ["train", "-m"], ["train"]):
        refused = scaling(*command, *TINY, "+sweep=mine", cwd=tmp_path)
        assert refused.returncode == 2
        assert "hydra.sweep.subdir=x: the runs of a study lie in runs_dir/study" in refused.stderr.splitlines()[-1]


def test_budgets_keep_their_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scaling.config.config import compose
    from scaling.config.grid import cells, grid_of
    from scaling.config.sections import Rows

    monkeypatch.chdir(tmp_path)
    cfg = compose([*TINY, "hydra.sweeper.budgets=[1.0000001e9,1.0000002e9,3.16e10]"])
    rows = cells(grid_of(cfg), {}, Rows(cfg, compose))
    assert rows == [("budget.flops=1000000100.0",), ("budget.flops=1000000200.0",), ("budget.flops=3.16e+10",)]


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_reader_that_has_gone_ends_a_command_quietly(tmp_path: Path) -> None:
    plan = f"{SCALING} plan {' '.join(TINY)} seed=range\\(0,600\\) budget.flops=1e8"
    for command in (plan, plan.replace("600", "3")):
        ended = shell(f"({command}; echo $? >code) | true", tmp_path)
        assert ended.stderr == ""
        assert (tmp_path / "code").read_text().strip() == "141"


def test_closed_streams_are_no_trouble(tmp_path: Path) -> None:
    run = " ".join([*TINY, "budget.flops=1e7"])
    assert shell(f"{SCALING} plan {run} >&-", tmp_path).returncode == 0
    assert shell(f"{SCALING} train -m {run} >&- 2>&- <&-", tmp_path).returncode == 0
    assert "1 done" in shell(f"{SCALING} status runs/default", tmp_path).stdout


def test_a_long_folder_of_temporary_files_is_no_trouble_to_the_fork_server(tmp_path: Path) -> None:
    long = tmp_path / ("t" * 120)
    long.mkdir()
    command = [str(SCALING), "train", "-m", *TINY, "budget.flops=1e7"]
    trained = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(long)}, capture_output=True, text=True, check=False
    )
    assert trained.returncode == 0, trained.stderr


def test_files_follow_the_umask(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.umask(0o027); from scaling.cli import main;"
        f"settings = [*{TINY!r}, 'budget.flops=1e7', 'runtime.keep_weights=true'];"
        "sys.exit(main(['train', '-m', *settings]) or main(['status', 'runs/default']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "runs").rglob("*")}
    odd = {str(path): oct(mode) for path, mode in modes.items() if mode != (0o750 if path.is_dir() else 0o640)}
    assert not odd
