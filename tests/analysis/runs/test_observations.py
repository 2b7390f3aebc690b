"""Readers and validation: what is accepted, what is excluded with a reason, what is refused, and in which
words.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.analysis.laws.cost import Cost
from scaling.analysis.results.document import analyse, summary
from scaling.analysis.runs.observations import MAX_ROWS, Observations, load
from tests.analysis.simulated import observe, table

CHECKED_ELSEWHERE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # one folder serves all examples

GOOD = "params,tokens,loss\n1e8,1e10,3.1\n2e8,1e10,3.0\n4e8,2e10,2.8\n"


def csv(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text)
    return path


def reasons(path: Path, **options: str) -> dict[int | None, str]:
    return {one.row: one.reason for one in load(path, **options).excluded}


def test_missing_flops_are_six_n_d_and_said_so(tmp_path: Path) -> None:
    found = load(csv(tmp_path, GOOD))
    assert found.column("flops") == pytest.approx([6e18, 12e18, 48e18])
    assert "no flops: C = 6 N D, from params and tokens" in found.notes
    assert found.conventions["flops"] == "training FLOPs (6 N D)"


def test_missing_tokens_are_compute_over_six_n_and_said_so(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "params,flops,loss\n1e8,6e18,3\n2e8,6e18,2.9\n"))
    assert found.column("tokens") == pytest.approx([1e10, 5e9])
    assert "no tokens: tokens = C / 6N, from flops and params" in found.notes
    assert found.conventions["tokens"] == "training tokens (C / 6N)"


def test_columns_are_found_under_their_usual_names(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "C,N,D,Final Loss\n6e18,1e8,1e10,3\n12e18,2e8,1e10,2.9\n"))
    assert found.column("loss") == pytest.approx([3, 2.9])
    assert "no flops" not in " ".join(found.notes)


ROWS = [(1e8, 1e10, 3.0), (2e8, 1e10, 2.9), (4e8, 2e10, 2.7)]
UNIT = "raw counts are needed, or a unit: "


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("70Q,1e10,3.1", "params = '70Q' is not a number"),
        ("1e8,lots,3.1", "tokens = 'lots' is not a number"),
        ("1e8,1e10,nan", "loss is missing"),
        (",1e10,3.1", "params is missing"),
        ("1e8,1e10,inf", "loss = inf is not finite"),
        ("1e8,1e10,-2", "loss = -2 is not positive"),
        ("0,1e10,3.1", "params = 0 is not positive"),
        ("70,1e10,3.1", f"params = 70 looks like millions or billions; {UNIT}--rename 'COLUMN=params (M)'"),
        ("1e8,10,3.1", f"tokens = 10 looks like millions or billions; {UNIT}--rename 'COLUMN=tokens (M)'"),
        ("1e300,1e10,3.1", "params = 1e+300 is beyond any training run"),
        ("1e8,1e10,31", "loss = 31 looks like a perplexity; nats per token are needed"),
        ("1e8,1e10,3.1", "the same as row 1"),
    ],
)
def test_one_bad_row_is_excluded_by_number_and_reason(tmp_path: Path, cell: str, reason: str) -> None:
    path = csv(tmp_path, GOOD + cell + "\n")
    assert reasons(path) == {4: reason}
    assert len(load(path).table) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("params,tokens,loss\n", "has a header and no rows"),
        ("\n\n", "cannot be read as CSV"),
        ("params|tokens|loss\n1|2|3\n", "separate the columns with commas"),
        ("params,tokens,loss,loss\n1e8,1e10,3,4\n", "names column 'loss' twice"),
        ("params,tokens,loss\n1e8,1e10,3,9\n1e8,1e10,3,9\n", "cannot be read as CSV"),
        ("params,tokens,loss\n1e8,1e10,3\n1e8,1e10,3,5\n", "cannot be read as CSV"),
        ("params,N,tokens,loss\n1e8,2e8,1e10,3\n", r"params 2 times, and they differ \(params, N\)"),
        ("params_total,params_non_embedding,tokens,loss\n1e8,9e7,1e10,3\n", "counts parameters in 2 ways"),
        ("params,tokens,D,loss\n1e8,1e10,2e10,3\n", "tokens 2 times"),
        ("params,tokens\n1e8,1e10\n", "has no loss column"),
        ("lr,loss\n1e-3,3\n", "has no params column"),
        ("params,tokens,loss_bits\n1e8,1e10,3\n", r"column 'loss_bits' \(rows 1 to 1\) is in bits; multiply"),
        ("params,tokens,perplexity\n1e8,1e10,30\n", "is in perplexity; take its natural logarithm"),
        ("params,tokens,loss\n70,1e10,3\n410,1e10,2.9\n", r"params = 70 looks like millions .* \(rows 1, 2\)"),
        ("params,tokens,loss\n1400,3e11,3\n6900,3e11,2.9\n", r"tokens / params = 2.14e\+08: .* \(rows 1, 2\)"),
        ("params,tokens,loss\n1e8,3e4,3\n2e8,3e4,2.9\n", r"tokens / params = 0.0003: one of them is not"),
        ("params,tokens,loss\n1e8,1e10,30\n2e8,1e10,28\n", r"perplexity; .* \(rows 1, 2\)"),
        ("params,tokens,flops,loss\n7e8,1e12,4e10,3\n8e8,1e12,4e10,3.1\n", "are flops in PF-days"),
        ("params,tokens,loss\n70Q,1e10,3\n1Q,1e10,2.9\n", "no usable row is left; .* row 2: params = '1Q'"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(csv(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_binary_and_truncated_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    table().to_parquet(whole)
    assert len(load(whole).table) == len(table())
    for name, content in (
        ("half.parquet", whole.read_bytes()[: whole.stat().st_size // 2]),
        ("tiny.parquet", b"PAR"),
        ("noise.csv", np.random.default_rng(0).bytes(4000)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_missing_sources_name_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not exist; give a CSV or Parquet file"):
        load(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="holds no runs"):
        load(tmp_path)
    with pytest.raises(ValueError, match="is not wandb:entity/project"):
        load("wandb:alone")
    with pytest.raises(ValueError, match="no data given"):
        load([])


def test_two_names_for_the_same_numbers_are_no_ambiguity(tmp_path: Path) -> None:
    assert len(load(csv(tmp_path, "params,N,tokens,loss\n1e8,1e8,1e10,3\n2e8,2e8,1e10,2.9\n")).table) == 2


def test_the_convention_of_parameters_is_chosen_by_name_or_column(tmp_path: Path) -> None:
    path = csv(tmp_path, "params_total,params_non_embedding,tokens,loss\n1e8,9e7,1e10,3\n2e8,18e7,1e10,2.9\n")
    assert load(path, params="total").column("params")[0] == 1e8
    assert load(path, params="total").conventions["params"] == "parameters with embeddings"
    assert load(path, params="params_non_embedding").column("params")[0] == 9e7
    with pytest.raises(ValueError, match=r"--params 'size' is not a column .* choose non_embedding, total"):
        load(path, params="size")


def test_a_stated_convention_that_the_file_does_not_confirm_is_noted(tmp_path: Path) -> None:
    found = load(csv(tmp_path, GOOD), params="total")
    assert found.conventions["params"] == "parameters with embeddings"
    assert "as asked; the file itself does not say" in found.notes[0]


def test_flops_by_convention_or_column(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,tokens,flops,other,loss\n1e8,1e10,7e18,8e18,3\n2e8,1e10,14e18,16e18,2.9\n")
    assert load(path).column("flops")[0] == 7e18
    assert load(path, flops="exact").column("flops")[0] == 7e18
    assert load(path, flops="other").column("flops")[0] == 8e18
    six = load(path, flops="6nd")
    assert six.column("flops")[0] == pytest.approx(6e18)
    assert six.column("flops_exact")[0] == 7e18
    with pytest.raises(ValueError, match="no flops column for --flops exact; use --flops 6nd"):
        load(csv(tmp_path, GOOD), flops="exact")


def test_where_excludes_by_number_and_sees_every_column(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,tokens,loss,bad\n1e8,1e10,3,1\n2e8,1e10,2.9,0\n3e8,1e10,2.8,0\n")
    assert reasons(path, where="bad == 0") == {1: "not selected: --where bad == 0"}
    assert len(load(path, where="params > 2.5e8 and loss < 3").table) == 1
    for query in ("nonsense ==", "missing > 3", "__import__('os')", "loss"):
        with pytest.raises(ValueError, match=r"--where .*columns: params|--where .* not a condition|--where"):
            load(path, where=query)
    with pytest.raises(ValueError, match="no usable row is left"):
        load(path, where="loss > 100")


def test_rows_of_a_cluster_share_a_number_and_gaps_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,tokens,loss,site\n1e8,1e10,3,a\n2e8,1e10,2.9,b\n3e8,1e10,2.8,a\n")
    assert load(path, cluster="site").clusters.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match=r"--cluster 'where' is not a column; choose from"):
        load(path, cluster="where")
    gap = csv(tmp_path, "params,tokens,loss,site\n1e8,1e10,3,a\n2e8,1e10,2.9,\n")
    with pytest.raises(ValueError, match="has no value in rows 2"):
        load(gap, cluster="site")


def test_flops_in_larger_units_are_read_once_the_unit_is_named(tmp_path: Path) -> None:
    flops = [6e-18 * n * d for n, d, _ in ROWS]
    path = csv(tmp_path, "params,C,loss\n" + "".join(f"{r[0]},{c},{r[2]}\n" for r, c in zip(ROWS, flops, strict=True)))
    with pytest.raises(ValueError, match=r"flops = 6 looks like units of 1e18, or PF-days; .*'COLUMN=flops \(1e18\)'"):
        load(path)
    assert load(path, rename={"C": "flops (1e18)"}).column("tokens") == pytest.approx([d for _, d, _ in ROWS])


def test_a_table_of_steps_without_tokens_is_told_of_tokens_per_step(tmp_path: Path) -> None:
    path = csv(tmp_path, "params,step,loss\n1e8,100,3\n2e8,100,2.9\n")
    with pytest.raises(ValueError, match=r"has no tokens column .*, or --tokens-per-step T, and tokens = step x T"):
        load(path).variables(["D"])
    assert load(path, tokens_per_step=1e6).column("tokens").tolist() == [1e8, 1e8]


def test_checkpoints_of_a_run_are_one_cluster_and_one_curve(tmp_path: Path) -> None:
    text = "run_id,params,tokens,loss\n" + "".join(f"a,1e8,{k}e9,{4 - k / 10}\n" for k in range(1, 6))
    found = load(csv(tmp_path, text + "b,2e8,5e9,3.3\n"), curves=True)
    assert found.clusters.tolist() == [0, 0, 0, 0, 0, 1]
    assert found.curves is not None
    assert found.curves["run_id"].tolist() == ["a"] * 5


def test_weights_have_mean_one_and_standard_errors_become_weights(tmp_path: Path) -> None:
    weighted = load(csv(tmp_path, "params,tokens,loss,weight\n1e8,1e10,3,1\n2e8,1e10,2.9,3\n"))
    assert weighted.column("weight") == pytest.approx([0.5, 1.5])
    by_error = load(csv(tmp_path, "params,tokens,loss,loss_se\n1e8,1e10,3,0.01\n2e8,1e10,2.9,0.02\n"))
    assert by_error.column("weight") == pytest.approx([1.6, 0.4])


def test_conflicting_repeats_are_kept_and_noted_by_row(tmp_path: Path) -> None:
    found = load(csv(tmp_path, "run_id,params,tokens,loss\na,1e8,1e10,3\na,1e8,1e10,3.1\nb,2e8,1e10,2.9\n"))
    assert len(found.table) == 3
    assert "2 rows share run, params and tokens" in found.notes[-1]
    assert "(rows 1, 2)" in found.notes[-1]


def test_names_from_the_data_are_never_formatted(tmp_path: Path) -> None:
    path = csv(tmp_path, GOOD.replace("loss", "loss,{run}").replace("3.1\n", "3.1,{0}\n").replace("3.0\n", "3.0,x\n"))
    assert len(load(path, where="loss > 2.9").table) == 2


def test_more_rows_than_can_be_fitted_are_refused_or_reduced_to_last_checkpoints(tmp_path: Path) -> None:
    n = MAX_ROWS + 10
    size = 10 ** np.random.default_rng(0).uniform(7, 9, n)
    frame = pd.DataFrame({"params": size, "tokens": 1e10, "loss": 2 + size**-0.1})
    frame.to_parquet(tmp_path / "many.parquet")
    with pytest.raises(ValueError, match=rf"has {n:,} usable rows .* select some with --where"):
        load(tmp_path / "many.parquet")
    frame["run_id"] = [f"r{k // 1000}" for k in range(n)]
    frame["tokens"] = [1e9 + 1e6 * (k % 1000) for k in range(n)]
    frame.to_parquet(tmp_path / "curves.parquet")
    found = load(tmp_path / "curves.parquet")
    assert len(found.table) == 51
    assert "only each run's last checkpoint is fitted" in " ".join(found.notes)
    assert found.column("tokens")[0] == 1e9 + 999e6


def test_a_long_list_of_exclusions_is_summarised(tmp_path: Path) -> None:
    frame = pd.DataFrame({"params": 1e8, "tokens": np.linspace(1e9, 2e9, 3000), "loss": 3.0})
    frame.to_parquet(tmp_path / "a.parquet")
    found = load(tmp_path / "a.parquet", where="tokens > 1.99e9")
    (one,) = found.excluded
    assert one.row is None
    assert one.reason.endswith("rows (rows 1, 2, 3, …): not selected: --where tokens > 1.99e9")


@pytest.mark.parametrize(("factor", "warned"), [(0.5, True), (1.2, True), (1.05, False), (1.0, False)])
def test_flops_that_contradict_tokens_are_the_first_warning(tmp_path: Path, factor: float, warned: bool) -> None:
    frame = table(noise_nats=0.01)
    frame["flops"] *= factor
    found = analyse(observe(frame.drop(columns="budget"), tmp_path), bootstrap=0, holdout=None)
    first = found["warnings"][0] if found["warnings"] else ""
    assert ("flops contradict params and tokens: C / (6 N D) is" in first) == warned
    if warned:
        assert summary(found).startswith("WARNING ")


def test_inferences_stand_at_the_top_and_in_the_results(tmp_path: Path) -> None:
    frame = table(noise_nats=0.01).drop(columns=["flops", "budget"]).rename(columns={"params": "Model Size"})
    found = analyse(observe(frame, tmp_path), bootstrap=0, holdout=None)
    assert [line.partition(": ")[2] for line in found["inferred"]] == [
        "params = column 'Model Size'",
        "no flops: C = 6 N D, from params and tokens",
        "no run_id column: every row is taken as a run of its own",
    ]
    lines = summary(found).splitlines()
    top = [line for line in lines if not line.startswith("WARNING")][:3]
    assert top == [f"inferred: {line}" for line in found["inferred"]]
    assert not set(found["notes"]) & {line.partition(": ")[2] for line in found["inferred"]}


def read_or_refuse(path: Path) -> Observations | None:
    """The observations, or None for a file refused in one line; anything else that is raised fails the
    test.
    """
    message = ""
    try:
        return load(path)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    return None


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(min_value=1e3, max_value=1e12),
    st.sampled_from(["", "x", "70M", "1e8", "-1", "0", "nan", "inf", "'", '"', "1,5"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKED_ELSEWHERE)
@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_whatever_the_cells_every_row_is_used_or_accounted_for(tmp_path: Path, rows: list[tuple[object, ...]]) -> None:
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"], dtype=object)
    path = tmp_path / "any.csv"
    frame.to_csv(path, index=False)
    found = read_or_refuse(path)
    if found is None:
        return
    used, out = set(found.table["row"]), {one.row for one in found.excluded}
    assert used | out == set(range(1, len(pd.read_csv(path)) + 1))
    assert not used & out
    for name in ("params", "tokens", "flops", "loss"):
        values = found.column(name)
        assert np.isfinite(values).all()
        assert (values > 0).all()


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKED_ELSEWHERE)
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_whatever_the_bytes_the_reader_refuses_in_one_line_or_reads(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    read_or_refuse(path)


@settings(max_examples=30, deadline=None, suppress_health_check=CHECKED_ELSEWHERE)
@given(order=st.permutations(range(9)))
def test_the_order_of_rows_and_columns_changes_nothing(tmp_path: Path, order: list[int]) -> None:
    frame = table(budgets=(1e14, 1e15, 1e16), spreads=(0.5, 1, 2)).assign(run_id=[f"r{k}" for k in range(9)])
    shuffled = frame.iloc[order][list(frame.columns[::-1])]
    one, two = observe(frame, tmp_path), observe(shuffled, tmp_path)
    names = ["run_id", "params", "tokens", "flops", "loss"]
    pd.testing.assert_frame_equal(
        one.table[names].sort_values("run_id", ignore_index=True),
        two.table[names].sort_values("run_id", ignore_index=True),
    )
    assert one.cost == Cost()
