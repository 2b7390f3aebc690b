"""Registered forecasts: written once, before their target, and never edited unnoticed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaling.analysis.design import registration
from scaling.analysis.design.registration import register, registered
from scaling.analysis.judgement.forecast import predict
from scaling.analysis.results.document import analyse, write
from scaling.analysis.runs.observations import load
from scaling.cli import main
from scaling.records.record import RunRecord, publish_record, read_records

CODE: Any = {"version": "0", "commit": None}
FLOPS = 1e16


def ahead(fitted: tuple[Path, Any], study: Path, **asked: float) -> tuple[Path, bool]:
    _, results = fitted
    return register(results, predict(results, **asked), study / "results.json", study, code=CODE)


def target_record(study: Path, path: Path, **changes: Any) -> RunRecord:
    """A record of the target of the study's only forecast."""
    forecast = json.loads(path.read_text())
    like = next(one for one in read_records(study) if one.status == "done")
    params, tokens = forecast["target"]["params"], forecast["target"]["tokens"]
    return replace(
        like,
        run_id="hero",
        study="elsewhere",
        n_params=dict.fromkeys(like.n_params, round(params)),
        train_tokens=round(tokens),
        train_flops=round(forecast["target"]["flops"]),
        val_loss_nats=forecast["loss"]["value"],
        started_at="2999-01-01T00:00:00+00:00",
        ended_at="2999-01-01T01:00:00+00:00",
        **changes,
    )


def publish(record: RunRecord, folder: Path) -> Path:
    """A study that holds one run."""
    (folder / record.run_id).mkdir(parents=True)
    (folder / record.run_id / "spec.json").write_text("{}")
    assert publish_record(folder / record.run_id, record)
    return folder


def test_a_forecast_is_written_once_under_the_digest_of_its_content(fitted: tuple[Path, Any], study: Path) -> None:
    path, new = ahead(fitted, study, flops=FLOPS)
    assert new
    assert path.parent == study / "predictions"
    assert path.stem == registration.digest(path.read_bytes())
    before = path.read_bytes()
    assert ahead(fitted, study, flops=FLOPS) == (path, False)
    assert path.read_bytes() == before
    assert ahead(fitted, study, flops=2 * FLOPS)[1]
    assert len(list(path.parent.glob("*.json"))) == 2


def test_a_forecast_holds_its_target_interval_method_and_inputs(fitted: tuple[Path, Any], study: Path) -> None:
    _, results = fitted
    path, _ = ahead(fitted, study, params=1e7, tokens=2e8)
    forecast = json.loads(path.read_text())
    loss = predict(results, params=1e7, tokens=2e8)["loss"]
    assert forecast["loss"] == {name: loss[name] for name in ("value", "low", "high")}
    assert forecast["method"] == {
        "name": "log mean of 4 forecasters",
        "members": [
            "chinchilla near the minima",
            "gamma near the minima",
            "isoFLOP power laws",
            "isoFLOP power laws over a floor",
        ],
    }
    assert forecast["target"]["counted"] == "non_embedding"
    assert forecast["target"]["settings"] == {"recipe.schedule.kind": "wsd"}
    assert forecast["inputs"]["runs"] == len(results["observations"]["row"])
    assert forecast["registered_at"].endswith("+00:00")


def test_nothing_is_registered_once_the_target_has_a_record(
    fitted: tuple[Path, Any], study: Path, tmp_path: Path
) -> None:
    _, results = fitted
    path, _ = ahead(fitted, study, flops=FLOPS)
    elsewhere = publish(target_record(study, path), tmp_path / "elsewhere")
    path.unlink()
    asked = predict(results, flops=FLOPS)
    with pytest.raises(ValueError, match="elsewhere/hero is this target, and finished at 2999-01-01T01:00:00"):
        register(results, asked, study / "results.json", study, code=CODE, against=[elsewhere])
    assert not list(path.parent.glob("*.json"))
    measured = next(one for one in read_records(study) if one.status == "done")
    n, d = measured.n_params["non_embedding"], measured.train_tokens
    with pytest.raises(ValueError, match=f"study/{measured.run_id} is this target"):
        ahead(fitted, study, params=float(n), tokens=float(d))


def test_an_edited_file_is_no_forecast(fitted: tuple[Path, Any], study: Path) -> None:
    path, _ = ahead(fitted, study, flops=FLOPS)
    assert registered(study)[0].forecast is not None
    path.write_text(path.read_text().replace('"registered_at": "2', '"registered_at": "1'))
    assert registered(study)[0].forecast is None


def test_a_law_of_one_variable_names_no_run(fitted: tuple[Path, Any], study: Path) -> None:
    results = analyse(load(study), laws=("power:N",), bootstrap=0, holdout=None)
    write(results, study.parent / "results.json")
    with pytest.raises(ValueError, match="power:N is a law of one variable, and its forecast names no run"):
        register(results, predict(results, params=1e7), study.parent / "results.json", study, code=CODE)


def test_the_command_registers_grades_and_states_a_repetition(
    fitted: tuple[Path, Any], study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(study), "--flops", "1e16", "--register"]
    assert main(command) == 0
    assert "registered: " in capsys.readouterr().out
    assert main(command) == 0
    assert "registered already, nothing was written: " in capsys.readouterr().out
    (path,) = (study / "predictions").glob("*.json")
    elsewhere = publish(target_record(study, path), tmp_path / "elsewhere")
    assert main(["status", str(study)]) == 0
    assert "waiting; no run of this target has finished" in " ".join(capsys.readouterr().out.split())
    assert main(["status", str(study), "--against", str(elsewhere)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "elsewhere/hero measured" in out
    assert "1 of 1 registered 95% intervals held the measured loss." in out
    assert main([*command, "--against", str(elsewhere)]) == 2
    assert "elsewhere/hero is this target" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--loss", "2.1", "--register"], "--register takes a target that can be trained"),
        (["--against", "x"], "--against"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(study), *options]) == 2
    assert said in capsys.readouterr().err
