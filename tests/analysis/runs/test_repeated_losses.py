"""A run, or a set of weights, that a table holds twice is named and used once."""

from pathlib import Path

import pandas as pd

from scaling.analysis.results.document import analyse
from tests.analysis.runs.test_checkpoints import checkpoints, read


def test_one_set_of_weights_at_several_token_counts_is_named_and_used_once(tmp_path: Path) -> None:
    frame = checkpoints(rows=4, runs=3).assign(run_id=lambda one: [f"step {k}" for k in range(len(one))])
    frame["loss"] = frame["loss"].round(7)
    frame.loc[[4, 5, 7], "loss"] = 2.1043217
    found = read(frame, tmp_path)
    assert {one.row: one.reason for one in found.excluded} == dict.fromkeys(
        (5, 6), "the same loss as row 8 to 7 digits at another token count"
    )
    (doubt,) = found.doubts
    assert "one set of weights at several token counts? Losses of one size agree to 7 digits in step 4 (row 5)" in doubt
    assert doubt in analyse(found, bootstrap=0, holdout=None)["warnings"]


def test_losses_of_few_digits_and_laws_without_tokens_are_no_repeats(tmp_path: Path) -> None:
    frame = checkpoints(rows=4, runs=3)
    assert not read(frame.assign(loss=frame["loss"].round(1)), tmp_path).doubts
    assert not read(frame.assign(loss=1.5 + frame["params"] ** -0.1), tmp_path).doubts
    assert not read(frame, tmp_path).doubts


def test_a_run_under_two_names_is_used_once(tmp_path: Path) -> None:
    frame = checkpoints(rows=4, runs=3).assign(run_id=lambda one: one["params"].map("{:.3g}".format))
    again = frame[frame["params"] < 2e7].assign(run_id="copy")
    found = read(pd.concat([frame, again]), tmp_path)
    assert [one.reason for one in found.excluded] == ["the same losses as run 1e+07"] * 4
    assert "the same run twice: copy repeats 1e+07" in found.doubts[0]
