"""The columns of a table: named, found and counted; units of the loss; laws of one variable from their variable."""

from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.runs.observations import Observations, load


def csv(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def said(found: Observations) -> list[str]:
    return [line.partition(": ")[2] for line in found.inferred]


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,size,seen,score,spent\na,1e8,1e10,3.1,7e18\nb,2e8,1e10,3,14e18\n")
    found = load(path, params="size", tokens="seen", loss_column="score", run_column="who", flops="spent")
    assert found.column("params").tolist() == [1e8, 2e8]
    assert found.column("tokens").tolist() == [1e10, 1e10]
    assert found.column("loss").tolist() == [3.1, 3]
    assert found.column("flops").tolist() == [7e18, 14e18]
    assert found.table["run_id"].tolist() == ["a", "b"]
    assert said(found) == []  # nothing was inferred
    for option, name in (("tokens", "--tokens"), ("loss_column", "--loss-column"), ("run_column", "--run")):
        with pytest.raises(ValueError, match=rf"{name} 'x' is not a column of .*runs.csv; choose a column: who, size"):
            load(path, **{"params": "size", "tokens": "seen", "loss_column": "score", option: "x"})


@pytest.mark.parametrize("ids", ["0,0,1,1", "3.0,3.0,4.0,4.0", "7,7,,8"])
def test_whole_numbers_name_runs(tmp_path: Path, ids: str) -> None:
    numbers = ids.split(",")
    rows = [f"{run},{size}e7,{k + 1}e8,3.{k}" for k, (run, size) in enumerate(zip(numbers, (1, 1, 3, 3), strict=True))]
    found = load(csv(tmp_path, "run_id,params,tokens,loss\n" + "\n".join(rows)), curves=True)
    wanted = [number.removesuffix(".0") or "row-3" for number in numbers]
    assert found.table["run_id"].tolist() == wanted
    assert found.curves is not None


def test_a_number_of_repeats_names_no_run(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "run,params,tokens,loss\n0,1e8,1e10,3\n1,1e8,1e10,3.1\n0,2e8,1e10,2.9\n"))
    assert len(set(found.clusters)) == 3


def test_sizes_follow_from_compute_and_tokens(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "C,D,loss\n6e18,1e10,3\n12e18,1e10,2.9\n"))
    assert found.column("params") == pytest.approx([1e8, 2e8])
    assert "no params: params = C / 6D, from flops and tokens" in said(found)
    assert found.conventions["params"] == "parameters (C / 6D)"


def test_the_one_column_with_parameters_in_its_name_is_taken_aloud_and_of_two_neither(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "params_scaling,tokens,loss\n1e8,1e10,3\n2e8,1e10,2.9\n"))
    assert said(found)[0] == "params = column 'params_scaling'"
    path = csv(tmp_path, "scaling_params,active_params,tokens,loss\n1e8,1e7,1e10,3\n2e8,2e7,1e10,2.9\n")
    with pytest.raises(ValueError, match=r"has no params column .*\(perhaps scaling_params, active_params\)"):
        load(path).variables(["N"])


@pytest.mark.parametrize(
    ("name", "options", "factor"),
    [
        ("val_bpb", {"bytes_per_token": 4.0}, 4 * np.log(2)),
        ("val/bits_per_byte", {"loss_unit": "bits_per_byte", "bytes_per_token": 2.0}, 2 * np.log(2)),
        ("loss", {"bytes_per_token": 4.0}, 4 * np.log(2)),
        ("loss", {"loss_unit": "bits_per_token"}, np.log(2)),
        ("bits_per_token", {"loss_unit": "bits_per_token"}, np.log(2)),
        ("val_bpb", {"loss_column": "val_bpb", "loss_unit": "nats"}, 1.0),
    ],
)
def test_bits_are_nats_by_the_declared_unit(
    tmp_path: Path, name: str, options: dict[str, object], factor: float
) -> None:
    found = load(csv(tmp_path, f"params,tokens,{name},loss_se\n1e8,1e10,1.1,.01\n2e8,1e10,1.0,.02\n"), **options)
    assert found.column("loss") == pytest.approx([1.1 * factor, factor])
    assert found.table["loss_se"].to_numpy() == pytest.approx([0.01 * factor, 0.02 * factor])


def test_a_perplexity_needs_consent(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,tokens,val_ppl\n1e8,1e10,20\n2e8,1e10,15\n")
    with pytest.raises(ValueError, match=r"'val_ppl' \(rows 1 to 2\) is in perplexity; .*--loss-unit perplexity"):
        load(path)
    found = load(path, loss_unit="perplexity")
    assert found.column("loss") == pytest.approx(np.log([20, 15]))
    assert "its logarithm" in found.conventions["loss"]


def test_bits_per_byte_are_refused_with_the_right_way_to_nats(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,tokens,val_bpb\n1e8,1e10,1.1\n")
    with pytest.raises(ValueError, match=r"bits per byte or character; declare it with --bytes-per-token R"):
        load(path)
    with pytest.raises(ValueError, match=r"'val_bpb' is in bits per byte .*--loss-unit nats if it is not"):
        load(path, loss_column="val_bpb")
    for options, message in (
        ({"loss_unit": "nits"}, "unknown loss unit 'nits'; choose from nats, bits_per_token"),
        ({"bytes_per_token": 0.0}, "--bytes-per-token must be positive"),
        ({"loss_unit": "bits_per_byte"}, "needs --bytes-per-token R"),
        ({"loss_unit": "nats", "bytes_per_token": 4.0}, "keep one"),
    ):
        with pytest.raises(ValueError, match=message):
            load(path, **options)


def test_total_and_active_parameters_must_be_chosen(tmp_path: Path) -> None:
    path = csv(tmp_path, "total_params,active_params,tokens,loss\n1e9,1e8,1e10,3\n2e9,2e8,1e10,2.9\n")
    with pytest.raises(ValueError, match=r"counts parameters in 2 ways \(total_params, active_params\)"):
        load(path)
    assert load(path, params="active_params").column("params").tolist() == [1e8, 2e8]
    assert load(path, params="total").column("params").tolist() == [1e9, 2e9]
