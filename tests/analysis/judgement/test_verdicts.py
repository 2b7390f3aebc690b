"""Verdicts: right laws are left alone, wrong ones named with their test, and none that is rejected leads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.fitting.fit import fit
from scaling.analysis.judgement.forecast import predict
from scaling.analysis.judgement.verdicts import REJECTED, Verdict, of_law
from scaling.analysis.judgement.verdicts import Test as OneTest
from scaling.analysis.laws.law import Law
from scaling.analysis.results.summary import summary
from tests.analysis.conformance import analyse
from tests.analysis.judgement.test_forecasters import BUDGETS, TRUTHS
from tests.analysis.simulated import observe

CHINCHILLA, GAMMA, _ = TRUTHS
SEVEN = (0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0)


def study(truth: Law, *, seeds: int, seed: int = 0, noise: float = 0.005, heavy: bool = False) -> pd.DataFrame:
    """Seven sizes at each of four budgets, with noise of the log loss: normal, or of Student's t with four degrees."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in BUDGETS:
        for factor in SEVEN:
            size = float(truth.optimum(flops).N) * factor
            tokens = flops / 6 / size
            for _ in range(seeds):
                error = rng.standard_t(4) / 2**0.5 if heavy else rng.standard_normal()
                rows.append((size, tokens, flops, float(truth(N=size, D=tokens)) * np.exp(noise * error), flops))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss", "budget"])


def judge(law: str, frame: pd.DataFrame, folder: Path) -> Verdict:
    observed = observe(frame, folder)
    x, y = observed.variables(("N", "D")), observed.column("loss")
    return of_law(fit(law, x, y), x, y, observed)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda law: law.name)
def test_right_laws_are_not_accused(truth: Law, seeds: int, tmp_path: Path) -> None:
    found = [judge(truth.name, study(truth, seeds=seeds, seed=k, heavy=k == 1), tmp_path) for k in range(2)]
    assert not any(verdict.rejected for verdict in found)
    assert {one.of for one in found[0].tests} == ({"repeats"} if seeds == 2 else {"minima", "order"})
    assert all("not rejected (p = " in verdict.words for verdict in found)


@pytest.mark.parametrize(("seeds", "words"), [(1, "minima"), (2, "more than repeats differ (lack of fit F = ")])
def test_a_wrong_law_is_rejected_in_words_that_name_the_test(seeds: int, words: str, tmp_path: Path) -> None:
    found = judge("chinchilla", study(GAMMA, seeds=seeds), tmp_path)
    assert found.rejected
    assert found.words.startswith("rejected: ")
    assert words in found.words


def test_probabilities_are_corrected_for_the_number_of_tests() -> None:
    one = OneTest("order", REJECTED / 2, "its residuals follow each other along D", "D")
    assert Verdict((one,)).rejected
    assert Verdict((one, OneTest("minima", 0.5, ""))).probability == pytest.approx(REJECTED)
    assert not Verdict((one, OneTest("minima", 0.5, ""))).rejected
    assert Verdict().probability is None
    assert "not judged" in Verdict().words


def test_rows_of_one_run_share_its_noise_and_are_not_judged_by_their_order(tmp_path: Path) -> None:
    observed = observe(study(CHINCHILLA, seeds=1), tmp_path)
    observed.table["cluster"] = np.tile(np.arange(len(SEVEN)), len(BUDGETS))
    x, y = observed.variables(("N", "D")), observed.column("loss")
    found = of_law(fit("chinchilla", x, y), x, y, observed)
    assert {one.of for one in found.tests} == {"minima"}
    assert "on 1.75 and 4 degrees" in found.tests[0].words  # a quarter of 7 and 16: of 28 rows, 7 are independent


def test_a_law_that_is_rejected_never_leads_while_another_stands(tmp_path: Path) -> None:
    results = analyse(observe(study(GAMMA, seeds=2), tmp_path), laws=("chinchilla", "gamma"), bootstrap=0)
    assert results["forecast"]["forms"] == ["gamma"]
    assert "the runs reject the chinchilla law" in results["warnings"][0]
    assert "does not rest on it" in results["warnings"][0]
    chinchilla, gamma = results["fits"]
    assert chinchilla["verdict"]["rejected"]
    assert not gamma["verdict"]["rejected"]
    assert predict(results, flops=1e13)["law"] == "gamma"
    lines = summary(results).splitlines()
    assert lines[0].startswith("WARNING the runs reject the chinchilla law")
    assert sum("verdict of the runs: " in line for line in lines) == 2


def test_a_rejected_law_that_was_asked_for_answers_under_a_warning_and_uncalibrated(tmp_path: Path) -> None:
    results = analyse(observe(study(GAMMA, seeds=2), tmp_path), laws=("chinchilla",), bootstrap=20)
    found = predict(results, flops=2e12)
    assert (found["law"], found["calibrated"]) == ("chinchilla", False)
    assert "UNCALIBRATED (the runs reject the chinchilla law" in found["words"]
    assert "the runs reject the chinchilla law: its losses miss" in results["warnings"][0]
    assert "the answer rests on it" in results["warnings"][0]


def test_a_forecaster_that_is_rejected_says_so_beside_its_values(tmp_path: Path) -> None:
    results = analyse(observe(study(CHINCHILLA, seeds=2, noise=2e-4), tmp_path), bootstrap=0)
    section = results["forecast"]["ensemble"]
    verdicts = {one["name"]: one["verdict"] for one in section["members"]}
    assert len(verdicts) == 4
    assert verdicts["isoFLOP power laws"]["rejected"]  # the truth has a floor, which noise this small shows
    assert "the minima's L* miss it by more than their errors (F = " in verdicts["isoFLOP power laws"]["words"]
    assert not verdicts["chinchilla near the minima"]["rejected"]
    members = predict(results, flops=1e13)["members"]
    assert [one["verdict"] for one in members] == [one["words"] for one in verdicts.values()]
    assert f"; {members[0]['verdict']}" in summary(results)
    assert not any("every forecaster" in line for line in results["warnings"])


def test_where_every_forecaster_is_rejected_the_first_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Verdict, "rejected", property(lambda self: bool(self.tests)))
    results = analyse(observe(study(CHINCHILLA, seeds=2), tmp_path), bootstrap=20)
    assert results["warnings"][0].startswith(
        "the runs reject every forecaster behind the answer (p < .001): chinchilla near"
    )
    found = predict(results, flops=1e12)
    assert not found["calibrated"]
    assert "UNCALIBRATED (the runs reject every forecaster" in found["words"]
