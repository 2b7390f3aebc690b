"""Effective data transferred: recovered from simulated runs, and withheld where they do not say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.analysis.figures import finetuning as plots
from scaling.analysis.figures.chart import Absent, Chart
from scaling.analysis.report.finetuning import summary, write_results
from scaling.analysis.runs.observations import load
from scaling.analysis.studies.data_transfer import TransferLaw, effective_data, fit_transfer
from scaling.analysis.studies.finetuning import analyse, holds_finetuned, paired_gain
from scaling.cli import main
from scaling.records.record import RunRecord, publish_record
from tests.examples import RECORD

SIZES = [100, 400, 1600, 6400]
FAMILY = "decoder, causal"
K, ALPHA, BETA = 30.0, 0.3, 0.25  # of D_T = k · D_F^α · N^β
WIDTHS = {8: 1e3, 16: 4e3, 32: 16e3}  # width: parameters


def scratch_loss(examples: float, params: float) -> float:
    return 4.0 * params**-0.05 * examples**-0.2


def write(study: Path, name: str, width: int, examples: int, loss: float, parent: dict[str, Any] | None) -> None:
    folder = study / name
    folder.mkdir(parents=True)
    spec = {
        "model": {"kind": "decoder", "d_model": width},
        "objective": {"kind": "causal"},
        "recipe": {},
        "seed": 0,
        "finetuned": {"task": "modules", "examples": examples},
    }
    facts = {
        "metric": "accuracy",
        "classes": ["a", "b"],
        "val_examples": 100,
        "scores": {"accuracy": {"value": 1 / (1 + loss), "se": 0.01}},
        "best_step": 1,
        "val_loss_sums": [30 * loss, 50 * loss, 20 * loss],
        "val_counts": [30.0, 50.0, 20.0],
        "parent": parent,
        "seen_in_pretraining": parent is not None,
    }
    counts = {"total": 1, "non_embedding": int(WIDTHS[width]), "non_embedding_head": 1}
    record = replace(RECORD, run_id=name, spec=spec, n_params=counts, val_loss_nats=loss, finetuned=facts)
    (folder / "spec.json").write_text(json.dumps(spec))
    publish_record(folder, record)


def simulate(study: Path, scratch_sizes: list[int]) -> Path:
    """Pretrained runs at one budget whose losses follow the law exactly, and their controls."""
    for width, params in WIDTHS.items():
        for size in scratch_sizes:
            write(study, f"s{width}-{size}", width, size, scratch_loss(size, params), None)
        for size in SIZES[:3]:
            worth = size + K * size**ALPHA * params**BETA
            parent = {
                "run_id": f"p{width}",
                "n_params": {"non_embedding": int(params)},
                "train_flops": 1e10,
                "budget_flops": 1e10,
                "train_tokens": 1e6,
                "val_loss_nats": 2.0,
            }
            write(study, f"t{width}-{size}", width, size, scratch_loss(worth, params), parent)
    return study


def test_known_transfer_is_recovered(tmp_path: Path) -> None:
    family = analyse(simulate(tmp_path / "s", SIZES))["families"][FAMILY]
    for point in family["points"]:
        truth = K * point["examples"] ** ALPHA * point["params"] ** BETA
        assert point["transfer"]["status"] == "within"
        assert point["transfer"]["transferred"] == pytest.approx(truth, rel=1e-9)
    (law,) = family["transfer"]
    assert (law["law"]["k"], law["law"]["alpha"], law["law"]["beta"]) == pytest.approx((K, ALPHA, BETA), rel=1e-6)


def test_too_few_sizes_from_scratch_tell_nothing(tmp_path: Path) -> None:
    results = analyse(simulate(tmp_path / "s", SIZES[:2]))
    family = results["families"][FAMILY]
    assert {point["transfer"]["status"] for point in family["points"]} == {"abstains"}
    assert "needs 3 sizes from scratch or more, here are 2" in family["points"][0]["transfer"]["why"]
    assert "no law of transferred data: 0 measured points" in summary(results)
    found = plots.transfer(results)
    assert isinstance(found, Absent)
    assert "here are 2" in found.why


def test_a_loss_off_the_scratch_curve_is_a_bound_and_a_curve_that_rises_is_none() -> None:
    sizes, losses = [100.0, 400.0, 1600.0], [2.0, 1.5, 1.2]
    beyond = effective_data(sizes, losses, 1.1, 400)
    assert (beyond.status, beyond.transferred) == ("at least", 1200)
    before = effective_data(sizes, losses, 2.1, 400)
    assert (before.status, before.transferred) == ("below", -300)
    assert effective_data(sizes, losses, 1.5, 100).transferred == pytest.approx(300)
    rising = effective_data(sizes, [2.0, 1.5, 1.5], 1.7, 100)
    assert rising.status == "abstains"
    assert "does not fall from 400" in rising.why


def test_the_law_is_withheld_where_most_points_are_bounds_or_do_not_vary() -> None:
    examples, params = np.array([1.0, 2, 4, 1, 2, 4]), np.array([1.0, 1, 1, 2, 2, 2])
    values = 3 * examples**0.5 * params
    law = fit_transfer(examples, params, values, 0)
    assert isinstance(law, TransferLaw)
    assert law(np.array([4.0]), 2.0) == pytest.approx(12)
    assert "only bounds" in str(fit_transfer(examples, params, values, 7))
    assert "one model size" in str(fit_transfer(examples, params * 0 + 1, values, 0))
    assert "only together" in str(fit_transfer(examples, examples, values, 0))


def test_the_gain_over_the_control_is_paired_by_document() -> None:
    counts = [10.0, 20.0, 30.0]

    def run(sums: list[float], seed: int) -> RunRecord:
        facts = {"val_loss_sums": sums, "val_counts": counts}
        return replace(RECORD, spec={"seed": seed}, finetuned=facts)

    hard = [10.0, 80.0, 15.0]  # documents differ by far more than the two arms do
    ours, theirs = run(hard, 0), run([total + 0.5 * n for total, n in zip(hard, counts, strict=True)], 0)
    gain = paired_gain([ours], [theirs])
    assert gain is not None
    assert gain["value"] == pytest.approx(0.5)
    assert gain["se"] == pytest.approx(0.0, abs=1e-12)
    assert paired_gain([ours], [run(hard, 1)]) is None


def test_figures_and_table_show_both_arms_and_say_what_was_seen(tmp_path: Path) -> None:
    study = simulate(tmp_path / "s", SIZES)
    results, written = write_results(study)
    assert {path.name for path in written} >= {"finetune.json", "finetune.png", "finetune.svg", "transfer.png"}
    assert json.loads((study / "finetune.json").read_text()) == results
    chart = plots.downstream(results)
    assert isinstance(chart, Chart)
    labels = {getattr(mark, "label", "") for panel in chart.panels if panel for mark in panel.marks}
    assert {"100 examples", "400 examples", "the same shape from scratch"} <= labels
    assert "a uniform guess gives 0.500" in chart.caption
    assert "though no labels" in chart.caption
    words = summary(results)
    assert "3 of 3" in words
    assert "D_T = 30" in words


def test_report_shows_a_finetuned_study_and_fits_leave_its_runs_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = simulate(tmp_path / "s", SIZES)
    assert main(["report", str(study)]) == 0
    assert "D_T = 30" in capsys.readouterr().out
    assert main(["fit", str(study)]) == 2
    assert "holds fine-tuned runs alone" in capsys.readouterr().err
    folder = study / "pretrained"
    folder.mkdir()
    (folder / "spec.json").write_text("{}")
    publish_record(folder, replace(RECORD, run_id="pretrained"))
    observations = load(study)
    assert list(observations.table["run_id"]) == ["pretrained"]
    assert len(observations.excluded) == 3 * (4 + 3)
    assert not holds_finetuned(study)  # so that `scaling report` is of the pretrained runs again
