"""The same runs in many layouts give the same observations, and each inference is stated."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.runs.observations import Observations, load

SIZES = {"gpt-19M": 19e6, "gpt-85M": 85e6, "gpt-302M": 302e6, "gpt-1.3B": 1.3e9}
STEPS = (1000, 2000, 4000, 8000)
TOKENS_PER_STEP = 524_288


def runs() -> pd.DataFrame:
    """Four sizes at four checkpoints."""
    rows = [
        (run, size, step, step * TOKENS_PER_STEP, 1.8 + 400 * size**-0.34 + 900 * (step * TOKENS_PER_STEP) ** -0.3)
        for run, size in SIZES.items()
        for step in STEPS
    ]
    return pd.DataFrame(rows, columns=["run_id", "params", "step", "tokens", "loss"]).round({"loss": 5})


def suffixed(value: float, digits: int = 12) -> str:
    return next(
        f"{value / unit:.{digits}g}{mark}" for unit, mark in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if value >= unit
    )


def superscript(value: float) -> str:
    mantissa, power = f"{value:.12e}".split("e")
    return f"{mantissa}×10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


NAMES = {
    "run_id": ("run_id", "run_name", "Run Name", "name", "job_name"),
    "params": ("params", "N", "n_params", "Model Size", "model.n_params", "Number of parameters", "numParams"),
    "tokens": ("tokens", "D", "train/tokens", "Training tokens", "tokens_seen", "train.total_tokens"),
    "loss": (
        "loss",
        "L",
        "val/loss",
        "Final Val Loss",
        "validation_loss",
        "valLoss",
        "eval/lm_loss",
        "Test loss (nats)",
    ),
}
WRITTEN: tuple[Callable[[float], object], ...] = (
    float,
    suffixed,
    superscript,
    lambda value: f"{value:,.0f}",
    lambda value: f"{suffixed(value)[:-1]} {suffixed(value)[-1]}",
)
UNITS = {"": 1.0, " (M)": 1e6, " (B)": 1e9, " [billions]": 1e9, "_b": 1e9}


def nested(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        *path, last = name.split(".")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


def write(table: pd.DataFrame, folder: Path, kind: str) -> Path:
    path = folder / f"runs.{kind}"
    records = json.loads(table.to_json(orient="records"))
    text = {
        "csv": table.to_csv(index=False),
        "tsv": table.to_csv(index=False, sep="\t"),
        "jsonl": "".join(json.dumps(nested(row)) + "\n" for row in records),
        "json": json.dumps(records),
    }
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "columns.json":
        path.write_text(json.dumps({name: [row[name] for row in records] for name in table.columns}))
    elif kind == "runs.json":
        path.write_text(json.dumps({"runs": records, "made": "today"}))
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(text[kind.removesuffix(".gz")].encode()))
    else:
        path.write_text(text[kind])
    return path


KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "columns.json", "runs.json", "csv.gz", "jsonl.gz")


def assert_same(found: Observations, wanted: pd.DataFrame) -> None:
    own = found.table[["run_id", "params", "tokens", "loss"]].sort_values(["params", "tokens"], ignore_index=True)
    wanted = wanted.sort_values(["params", "tokens"], ignore_index=True)
    assert len(own) == len(wanted)
    assert own["run_id"].tolist() == wanted["run_id"].astype(str).tolist()
    for name in ("params", "tokens", "loss"):
        assert own[name].to_numpy() == pytest.approx(wanted[name].to_numpy(), rel=1e-9), name


@pytest.mark.parametrize("seed", range(40))
def test_a_mixture_of_names_units_formats_and_orders_reads_alike(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    wanted = runs()
    table = wanted.drop(columns="step")
    names = {name: draw.choice(usual) for name, usual in NAMES.items()}
    for quantity in ("params", "tokens"):
        written, unit = draw.choice(WRITTEN), draw.choice(list(UNITS))
        if unit and written is not float:
            unit = ""
        if names[quantity] in ("N", "D") and unit == "_b":
            unit = " (B)"
        table[quantity] = [written(value / UNITS[unit]) for value in table[quantity]]
        names[quantity] += unit
    kind = draw.choice(KINDS)
    if kind.startswith("jsonl") and "." in "".join(names.values()):
        names = {name: column.replace("/", ".") for name, column in names.items()}
    columns = list(names)
    draw.shuffle(columns)
    table = table[columns].rename(columns=names).sample(frac=1, random_state=seed)
    found = load(write(table, tmp_path, kind))
    assert_same(found, wanted)
    for name, column in names.items():
        if column != name:
            assert any(f"{name} = column {column!r}" in line for line in found.inferred), (column, found.inferred)


def chart(metric: str = "val/loss", *, ends: bool = True, first: str = "Step", x: str = "step") -> pd.DataFrame:
    table = runs()
    wide: dict[str, list[float]] = {first: sorted(table[x].unique())}
    for run, rows in table.groupby("run_id", sort=False):
        wide[f"{run} - {metric}"] = rows["loss"].tolist()
        if ends:
            wide |= {f"{run} - {metric}__{end}": (rows["loss"] + by).tolist() for end, by in (("MIN", -1), ("MAX", 1))}
    return pd.DataFrame(wide)


def test_a_wandb_chart_reads_as_its_runs_with_the_steps_as_tokens(tmp_path: Path) -> None:
    path = write(chart(), tmp_path, "csv")
    found = load(path, tokens_per_step="524,288")
    assert_same(found, runs())
    said = "\n".join(found.inferred)
    assert "W&B's chart: 4 runs' val/loss by 'Step'; columns __MIN and __MAX are left out" in said
    assert "params from the runs' names: 'gpt-19M' has 19M = 19,000,000" in said
    assert "tokens = column 'Step' x 524,288" in said
    assert len(set(found.clusters)) == 4


def test_a_chart_against_tokens_needs_no_steps_and_may_end_early(tmp_path: Path) -> None:
    wide = chart(first="train/tokens", x="tokens")
    wide.loc[3, [name for name in wide.columns if name.startswith("gpt-1.3B")]] = np.nan
    found = load(write(wide, tmp_path, "csv"))
    assert_same(found, runs().drop(index=15))


@pytest.mark.parametrize("how", ["second table", "steps", "tokens first"])
def test_a_wide_table_reads_as_its_runs(tmp_path: Path, how: str) -> None:
    table = runs().assign(run_id=lambda one: one["run_id"].str.replace(".", "p"))  # names that state no size
    table["run_id"] = table["run_id"].map({name: f"model {k}" for k, name in enumerate(table["run_id"].unique())})
    x = "tokens" if how == "tokens first" else "step"
    path = tmp_path / "wide.csv"
    table.pivot(index=x, columns="run_id", values="loss").to_csv(path)
    table.pivot(index="step", columns="run_id", values="tokens").to_csv(tmp_path / "tokens.csv")
    sizes = table.drop_duplicates("run_id").rename(columns={"run_id": "model"})
    sizes[["model", "params"]].to_csv(tmp_path / "sizes.csv", index=False)
    options: dict[str, Any] = {
        "second table": {"tokens": str(tmp_path / "tokens.csv")},
        "steps": {"tokens_per_step": TOKENS_PER_STEP},
        "tokens first": {},
    }[how]
    found = load(path, runs=tmp_path / "sizes.csv", **options)
    assert_same(found, table)
    assert any("a wide table: 4 runs" in line for line in found.inferred)
    if how != "tokens first":
        with pytest.raises(ValueError, match=r"wide.csv has no tokens column .*--tokens COLUMN"):
            load(path, runs=tmp_path / "sizes.csv").variables(["N", "D"])


def test_faults_of_a_second_table_are_named(tmp_path: Path) -> None:
    path = write(chart(), tmp_path, "csv")
    (tmp_path / "sizes.csv").write_text("run,params\ngpt-19M,19e6\n")
    with pytest.raises(ValueError, match=r"sizes.csv has no row for run 'gpt-1.3B'; it needs one row a run of"):
        load(path, runs=tmp_path / "sizes.csv", tokens_per_step=1)
    (tmp_path / "sizes.csv").write_text("run,params\n" + "gpt-19M,19e6\n" * 2 + "gpt-85M,1\ngpt-302M,1\ngpt-1.3B,1\n")
    with pytest.raises(ValueError, match=r"sizes.csv names a run of column 'run' twice"):
        load(path, runs=tmp_path / "sizes.csv", tokens_per_step=1)
    (tmp_path / "tokens.csv").write_text("Step,gpt-19M\n1000,1\n")
    with pytest.raises(ValueError, match=r"tokens.csv has no column for run 'gpt-85M'"):
        load(path, tokens=str(tmp_path / "tokens.csv"))
    with pytest.raises(ValueError, match=r"--tokens-per-step 'lots' is neither a number nor a column"):
        load(path, tokens_per_step="lots")


def wandb_table(**own: list[object]) -> pd.DataFrame:
    n = len(next(iter(own.values())))
    fixed = {"Notes": "-", "User": "someone", "Tags": "", "Created": "2026-05-01T10:00:00.000Z", "Runtime": 3600}
    return pd.DataFrame({"Name": [f"run {k}" for k in range(n)], "State": "finished", **fixed, **own})


def test_wandbs_table_of_runs_leaves_unfinished_runs_out_by_name(tmp_path: Path) -> None:
    table = wandb_table(
        **{"config.n_params": [1e7, 2e7, 4e7, 8e7], "train/tokens": [1e9] * 4, "val/loss": [4, 3.8, 3.6, 3.5]}
    )
    table.loc[[1, 2], "State"] = ["crashed", "running"]
    found = load(write(table, tmp_path, "csv"))
    assert [(one.row, one.run_id, one.reason) for one in found.excluded] == [
        (2, "run 1", "State: crashed"),
        (3, "run 2", "State: running"),
    ]
    assert found.table["run_id"].tolist() == ["run 0", "run 3"]


def test_a_column_of_other_states_is_a_setting(tmp_path: Path) -> None:
    table = wandb_table(params=[1e7, 2e7], tokens=[1e9] * 2, loss=[4, 3.8]).assign(State=["California", "Texas"])
    assert len(load(write(table, tmp_path, "csv")).table) == 2


def test_this_projects_own_wandb_table_counts_as_its_records_do(tmp_path: Path) -> None:
    table = wandb_table(
        **{
            "ID": ["aa", "bb"],
            "n_params.total": [12_000, 24_000],
            "n_params.non_embedding": [9_000, 20_000],
            "n_params.non_embedding_head": [10_000, 22_000],
            "train/tokens": [1e6, 1e6],
            "train/flops": [6e10, 13e10],
            "val/loss": [3.3, 3.1],
            "val/bpb": [1.9, 1.8],
        }
    )
    found = load(write(table, tmp_path, "csv"))
    assert found.column("params").tolist() == [9_000, 20_000]
    assert found.conventions["params"] == "non-embedding parameters"
    assert found.table["run_id"].tolist() == ["aa", "bb"]
    assert load(tmp_path / "runs.csv", params="total").column("params").tolist() == [12_000, 24_000]


def test_renamed_columns_are_checked(tmp_path: Path) -> None:
    path = write(runs().rename(columns={"loss": "score"}), tmp_path, "csv")
    assert_same(load(path, rename={"score": "loss"}), runs())
    with pytest.raises(ValueError, match=r"--rename points=loss: 'points' is not a column of .*; choose from run_id"):
        load(path, rename={"points": "loss"})
    with pytest.raises(ValueError, match=r"--rename score=tokens: .* has a column 'tokens' already"):
        load(path, rename={"score": "tokens"})


def test_json_that_is_no_table_is_refused_in_one_line(tmp_path: Path) -> None:
    for text, message in (
        ("[1, 2]", "expected a list of objects"),
        ('{"a": [1, 2], "b": [1]}', r"columns differ in length \(a: 2, b: 1\)"),
        ('{"schema": 1, "fits": []}', "it is a results.json"),
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ('{"x": [{"a": 1}], "y": [{"a": 1}]}', r"holds 2 tables \(x, y\): keep one"),
        ("[" * 100_000, "cannot be read as JSON"),
    ):
        path = tmp_path / "runs.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)
