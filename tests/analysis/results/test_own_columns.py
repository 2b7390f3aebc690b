"""Formulas, own classes and held parameters through the analysis: document, summary, figure, report, predictions."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.figures import CHARTS
from scaling.analysis.figures.chart import Chart
from scaling.analysis.fitting.fit import Loss
from scaling.analysis.fitting.fit_runs import fit
from scaling.analysis.fitting.learning_curve import fit_learning_curve
from scaling.analysis.judgement.forecast import describe, predict
from scaling.analysis.judgement.own_columns import describe_columns, predict_columns
from scaling.analysis.report.page import write_report
from scaling.analysis.results.document import analyse, read, summary, write
from scaling.analysis.runs.observations import load
from scaling.cli import main

FORMULA = "E + A*P^-a + B*vocab_size^-b"
OWN = """
from dataclasses import dataclass
from typing import Any, ClassVar
from scaling.analysis.laws.law import Law, amplitude, exponent, level

@dataclass(frozen=True)
class OfVocabulary(Law):
    name: ClassVar = "of_vocabulary"
    variables: ClassVar = ("P", "vocab_size")
    equation: ClassVar = "L = E + A P^-a + B V^-b"
    source: ClassVar = "a test"
    E: Any = level()
    A: Any = amplitude(lambda p: {"L": 1.0, "P": p["a"]})
    a: Any = exponent()
    B: Any = amplitude(lambda p: {"L": 1.0, "vocab_size": p["b"]})
    b: Any = exponent()

    def formula(self, P: Any, vocab_size: Any) -> Any:
        return self.E + self.A * P**-self.a + self.B * vocab_size**-self.b
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Runs with neither params nor tokens: two columns of their own, a word, and a loss."""
    rng = np.random.default_rng(0)
    P, V = (np.exp(rng.uniform(*np.log(ends), 40)) for ends in ((1e7, 1e9), (4e3, 1e5)))
    loss = (1.5 + 200 * P**-0.3 + 8 * V**-0.4) * np.exp(rng.normal(0, 0.002, 40))
    rows = [f"{p:.0f},{v:.0f},{w},{y:.5f}" for p, v, w, y in zip(P, V, ["adam", "muon"] * 20, loss, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["P,vocab_size,optimizer,val_loss", *rows]))
    return path


def test_a_formula_goes_from_the_table_to_the_report_and_its_predictions(table: Path) -> None:
    observations = load(table, own_columns=True, pool=True)
    results = analyse(observations, laws=[FORMULA], bootstrap=30)
    write(results, table.with_name("results.json"))
    results = read(table.with_name("results.json"))
    (entry,) = results["fits"]
    assert entry["status"] == "converged"
    assert entry["variables"] == ["P", "vocab_size"]
    assert set(entry["intervals"]) == {"E", "A", "a", "B", "b"}
    assert FORMULA in summary(results)
    (found,) = predict_columns(results, {"P": 2e9, "vocab_size": 3e4})
    truth = 1.5 + 200 * 2e9**-0.3 + 8 * 3e4**-0.4
    assert found["value"] == pytest.approx(truth, rel=0.005)
    assert found["low"] is not None
    assert found["high"] is not None
    assert found["low"] < found["value"] < found["high"]
    assert "P = 2e+09 lies outside" in describe_columns(found)
    chart = CHARTS["predicted"](results)
    assert isinstance(chart, Chart)
    assert len(chart.panels) == 1
    assert write_report(results, table.parent / "report").is_file()
    with pytest.raises(ValueError, match="no fitted law takes just P: .* takes P, vocab_size"):
        predict_columns(results, {"P": 1e9})


def test_the_command_fits_holds_bounds_and_predicts(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = table.parent / "fits"
    asked = ["fit", str(table), "--law", FORMULA, "--pool", "--bootstrap", "0", "--out", str(out)]
    assert main([*asked, "--fix", "E=1.5", "--bounds", "b=:0.2"]) == 0
    printed = capsys.readouterr().out
    assert "E = 1.5 (held)" in printed
    assert "at the edge of its range: b" in printed
    (entry,) = json.loads((out / "results.json").read_text())["fits"]
    assert entry["params"]["E"] == 1.5
    assert entry["params"]["b"] == 0.2
    assert main(["predict", str(out / "results.json"), "--at", "P=1e8", "vocab_size=3e4"]) == 0
    assert capsys.readouterr().out.startswith("loss 2.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--law", "E + A*Q^-a + B*vocab_size^-b"], "'Q' being none; the columns are P, vocab_size, optimizer"),
        (["--law", "E + A*P^-a + B*optimizer^-b"], "column 'optimizer'.* holds words"),
        (["--law", FORMULA, "--fix", "F=1"], "unknown parameter 'F'"),
        (["--law", FORMULA, "--fix", "E"], "--fix 'E' is not NAME=VALUE"),
        (["--law", FORMULA, "--fix", "E=x"], "'x' is no number"),
        (["--law", FORMULA, "--bounds", "E=3"], "not NAME=LOW:HIGH"),
        (["--law", FORMULA, "--fix", "E=1", "--fix", "E=2"], "a second time"),
        (["--law", "domain_mixture"], "takes the columns of the shares"),
        (["--law", "no_such_module:Law"], "there is no module 'no_such_module'"),
    ],
)
def test_a_mistake_is_one_line(
    table: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["fit", str(table), *arguments, "--pool", "--bootstrap", "0"]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(words, said), said
    assert "\n" not in said


def test_negative_losses_are_refused_on_the_log_scale_with_the_remedy(table: Path) -> None:
    lines = table.read_text().splitlines()
    shifted = [f"{line.rpartition(',')[0]},{float(line.rpartition(',')[2]) - 5}" for line in lines[1:]]
    table.write_text("\n".join([lines[0], *shifted]))
    with pytest.raises(ValueError, match="is not positive; --on linear fits any loss"):
        load(table, own_columns=True)
    observations = load(table, own_columns=True, any_sign=True, pool=True)
    results = analyse(observations, laws=[FORMULA.replace("E +", "e +")], loss=Loss(on="linear"), bootstrap=25)
    (entry,) = results["fits"]
    assert entry["status"] != "refused"
    assert entry["params"]["e"] == pytest.approx(-3.5, abs=0.2)
    assert predict_columns(results, {"P": 1e8, "vocab_size": 3e4})[0]["low"] is not None
    assert write_report(results, table.parent / "report").is_file()


def test_each_output_column_has_a_law_of_its_own(tmp_path: Path) -> None:
    shares = np.random.default_rng(1).dirichlet([1.0, 1.0], 30)
    rows = [f"{w},{c},{1 + (w + 0.3 * c) ** -0.4},{2 + 0.5 * (c + 0.2 * w) ** -0.3}" for w, c in shares]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["web,code,loss_web,loss_code", *rows]))
    laws = ["loss_web = mixture(web, code)", "loss_code = mixture(code, web)"]
    results = analyse(load(path, own_columns=True, loss_column="loss_web"), laws=laws, bootstrap=0)
    assert [entry["params"]["E"] for entry in results["fits"]] == pytest.approx([1.0, 2.0], rel=1e-5)
    found = predict_columns(results, {"web": 0.5, "code": 0.5})
    assert [one["output"] for one in found] == ["loss_web", "loss_code"]
    assert found[1]["value"] == pytest.approx(2 + 0.5 * 0.6**-0.3, rel=1e-6)


def test_a_class_of_ones_own_is_fitted_by_module_and_name(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (table.parent / "laws_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(table.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    observations = load(table, own_columns=True, pool=True)
    results = analyse(observations, laws=["laws_of_a_test:OfVocabulary", FORMULA], bootstrap=0)
    own, formula = results["fits"]
    assert own["objective"] == pytest.approx(formula["objective"], rel=1e-9)
    assert len(predict_columns(results, {"P": 1e8, "vocab_size": 3e4})) == 2
    with pytest.raises(ValueError, match="has no law 'Other': choose from OfVocabulary"):
        analyse(observations, laws=["laws_of_a_test:Other"], bootstrap=0)


def test_fit_in_python_takes_formulas_over_a_tables_own_names(tmp_path: Path) -> None:
    N, D = (column.ravel() for column in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    rows = [f"{n},{d},{1.7 + 300 * n**-0.3 + 500 * d**-0.3}" for n, d in zip(N, D, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["model_size,train_tokens,loss", *rows]))
    for text in ("E + A*model_size^-a + B*train_tokens^-b", "E + A*N^-a + B*D^-b"):
        found = fit(text, path, fix={"E": 1.7}, bounds={"a": (0.1, 1.0)})
        assert found.law.params["A"] == pytest.approx(300, rel=1e-6)


def test_the_learning_curve_laws_predict_by_their_log_mean(tmp_path: Path) -> None:
    D = np.geomspace(1e6, 1e9, 20)
    y = (0.3 + 40 * D**-0.35) * np.exp(np.random.default_rng(0).normal(0, 0.005, 20))
    path = tmp_path / "curve.csv"
    path.write_text("\n".join(["tokens,loss", *(f"{d},{one}" for d, one in zip(D, y, strict=True))]))
    results = analyse(load(path), laws=["learning_curve:D"], bootstrap=0)
    assert [entry["name"] for entry in results["fits"]] == ["m4:D", "broken_power:D"]
    found = predict(results, tokens=1e10)
    single = [one["value"] for one in predict_columns(results, {"D": 1e10})[1:]]
    assert found["loss"]["value"] == pytest.approx(np.sqrt(np.prod(single)), rel=1e-12)
    assert "log mean" in describe(found)
    curve = fit_learning_curve({"D": D}, y)
    assert float(curve(D=1e10)) == pytest.approx(found["loss"]["value"], rel=1e-9)
