"""`scaling curves` and `scaling predict --run`: the words, the files, and the mistakes in arguments."""

import json
from pathlib import Path

import pytest

from scaling.cli import main
from tests.analysis.curves.simulated import CONSTANT, LINEAR, ROOT, by_annealing, spec_of, write_run, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs of three schedules, and one stopped at two thirds."""
    folder = tmp_path_factory.mktemp("curves") / "s"
    write_study(folder, [spec_of(one) for one in (CONSTANT, LINEAR, ROOT)])
    write_run(folder, spec_of(LINEAR, seed=4), by_annealing(spec_of(LINEAR, seed=4)), done=400)
    return folder


def test_a_study_is_fitted_drawn_and_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curves", str(study), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "fitted to constant and linear over 25%; the others are held out" in out
    assert f"figure: {tmp_path / 'out' / 'curves.png'}" in out
    assert (tmp_path / "out" / "curves.png").is_file()
    written = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert main(["curves", str(study), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == written


def test_a_run_is_named_by_its_folder_or_its_id_in_a_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = spec_of(LINEAR, seed=4).run_id
    assert main(["predict", "--run", str(study / run_id)]) == 0
    by_folder = capsys.readouterr().out
    assert main(["predict", str(study), "--run", run_id]) == 0
    assert capsys.readouterr().out == by_folder
    assert "forecast validation loss at the end" in by_folder
    assert main(["predict", str(study), "--run", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "nowhere"], "--run nowhere: is no folder; give runs/STUDY/RUN_ID, or the study before its run's id"),
        (["{study}", "--run", "ffff"], "--run ffff: {study} holds no such run; choose from "),
        (
            ["--run", "{study}", "--flops", "1e9"],
            "--run forecasts the end of a run as it was planned: leave out",
        ),
        (["--run", "{study}"], "{study}/spec.json does not exist: give a run's folder"),
        ([], "give a results.json or the study that holds it, or a run in progress with --run RUN"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *(one.format(study=study) for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"scaling predict: {words.format(study=study)}")
    assert error.count("\n") == 1
