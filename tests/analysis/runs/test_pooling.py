"""A text column that explains most of the scatter about one law is refused, and others are pooled."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.analysis.results.document import analyse
from scaling.analysis.results.parts import analyse_parts
from scaling.analysis.runs.pooling import refuse_pooled_words
from tests.analysis.simulated import TRUTH, observe


def mixed(gap: float, *, crossed: bool = True, noise: float = 0.01) -> pd.DataFrame:
    """Two architectures whose losses differ by a gap, on one grid or each on sizes of its own, interleaved."""
    rng = np.random.default_rng(1)
    rows = []
    for k, size in enumerate(np.geomspace(1e7, 1e9, 8)):
        for ratio in (10, 20, 40):
            for name in ("dense", "moe") if crossed else (("dense", "moe")[k % 2],):
                loss = (
                    float(TRUTH(N=size, D=ratio * size)) * (1 - gap * (name == "moe")) + noise * rng.standard_normal()
                )
                rows.append((size, ratio * size, name, loss))
    return pd.DataFrame(rows, columns=["params", "tokens", "architecture", "loss"])


@pytest.mark.parametrize("crossed", [True, False])
def test_a_word_that_explains_most_of_the_scatter_is_refused_with_the_ways_on(tmp_path: Path, crossed: bool) -> None:
    table = mixed(0.1, crossed=crossed)
    with pytest.raises(
        ValueError, match=r"column 'architecture' explains \d+% of the scatter .*--by .*--pool"
    ) as caught:
        analyse(observe(table, tmp_path), bootstrap=0)
    assert "\n" not in str(caught.value)
    assert analyse(observe(table, tmp_path, pool=True), bootstrap=0, holdout=None)["fits"]
    assert list(analyse_parts(observe(table, tmp_path), by=["architecture"], bootstrap=0)[0]) == ["dense", "moe"]


@pytest.mark.parametrize("seed", range(20))
def test_words_that_explain_nothing_are_pooled(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = mixed(0.0).assign(architecture=rng.choice(["a", "b", "c"], 48))
    refuse_pooled_words(observe(table, tmp_path))


def test_a_name_of_the_size_is_no_setting_that_parts(tmp_path: Path) -> None:
    table = mixed(0.0, noise=0.05)
    table["architecture"] = ["small" if size < 1e8 else "large" for size in table["params"]]
    refuse_pooled_words(observe(table, tmp_path))


def test_words_coded_as_numbers_are_refused_and_numbers_are_warned_about(tmp_path: Path) -> None:
    table = mixed(0.1, crossed=False)
    coded = (table["architecture"] == "moe").astype(int)
    with pytest.raises(ValueError, match="column 'architecture' explains"):
        analyse(observe(table.assign(architecture=coded), tmp_path), bootstrap=0)
    found = analyse(observe(table.drop(columns="architecture").assign(n_experts=1 + 7 * coded), tmp_path), bootstrap=0)
    assert any("column 'n_experts' explains" in line and "--by 'n_experts'" in line for line in found["warnings"])


def test_a_size_that_is_missing_is_told_before_the_words_that_stand_for_it(tmp_path: Path) -> None:
    table = mixed(0.0)
    named = table.assign(model=[f"GPT-{size:.0f}" for size in table["params"]]).drop(columns=["params", "architecture"])
    observed = observe(named, tmp_path)
    with pytest.raises(ValueError, match=r"has no params column .*--params COLUMN.*--law power:D"):
        analyse(observed, bootstrap=0)
    with pytest.raises(ValueError, match="column 'model' explains"):
        analyse(observed, laws=["chinchilla", "power:D"], bootstrap=0)
