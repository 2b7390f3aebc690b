"""Runs that may be fitted together: their losses measure the same thing, under the same treatment.

Losses of different predictions or texts are different quantities: such runs are never compared. Losses of one quantity
under different treatments are comparable but follow laws of their own, so that one curve through both is neither's.

A *treatment* is a setting of the recipe or the model that is a word or a truth value: optimizer, parametrization,
schedule, precision, activation. Numbers are none: learning rate, batch, decay and steps follow from a run's scale, and
layers, width and heads are the grid that a law is fitted over; a seed is a repeat. A setting of the model must also
have been crossed, some width and depth trained under more than one value: one that goes with size, as tied embeddings
in the small models of a ladder, is part of its shape. Tables from elsewhere have none of these columns.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scaling.analysis.runs.observations import Observations
from scaling.analysis.runs.pooling import refuse_pooled_words

# Settings of a recorded run that determine the measure of its loss.
DECIDES = ("model.kind", "data.fingerprint", "data.tokenizer", "data.tokenizer_sha256", "data.vocab_size")
OBJECTIVE = "objective."
# Every other word or truth value of a RunSpec's recipe and model, but for recipe.compile: the same sums, only faster.
TREATMENTS = (
    "recipe.optimizer.kind",
    "recipe.parametrization.kind",
    "recipe.schedule.kind",
    "recipe.schedule.cooldown_shape",
    "recipe.precision",
    "model.positions",
    "model.norm",
    "model.norm_place",
    "model.parallel_residual",
    "model.activation",
    "model.bias",
    "model.qkv_bias",
    "model.tied_embeddings",
    "model.head_sees",
    "model.head_transform",
    "model.embedding_norm",
    "model.segments",
    "model.next_sentence",
    "model.attention_scale",
    "model.logit_scale",
    "model.head_bias",
)
SIZE = ("model.n_layers", "model.d_model")

Parts = dict[str, Observations]


def comparable_parts(observations: Observations) -> Parts:
    """The observations by the measure of their loss, named by the settings that differ; one part when none do."""
    table = observations.table
    columns = [name for name in table.columns if name in DECIDES or str(name).startswith(OBJECTIVE)]
    differing = [name for name in columns if table[name].astype(str).nunique() > 1]
    if not differing:
        return {"": observations}
    # An objective's kind, say, speaks for the settings that come with it.
    telling = [name for name in differing if name.endswith(".kind")] or differing
    labels = table[differing].astype(str).agg("\n".join, axis=1)
    parts: Parts = {}
    for label in dict.fromkeys(labels):
        rows = (labels == label).to_numpy()
        name = "-".join(str(table.loc[rows, column].iloc[0])[:24] for column in telling)
        while name in parts:
            name += "'"
        parts[name] = _part(observations, rows)
    return parts


def treatments(table: pd.DataFrame) -> list[str]:
    """The settings by which runs of one measure were treated differently; the module defines a treatment."""
    return [name for name in TREATMENTS if name in table.columns and _splits(table, name)]


def treated_parts(observations: Observations) -> Parts:
    """The observations by treatment, named by the settings that differ, in the names' order; one when none do."""
    table = observations.table
    telling: list[pd.Series[str]] = []
    alike = pd.Series("", index=table.index)
    for name in treatments(table):
        finer = alike + "\n" + _values(table, name)
        if finer.nunique() > alike.nunique():  # else it comes with those before it, as a schedule's shape with its kind
            alike, telling = finer, [*telling, _values(table, name)]
    if not telling:
        return {"": observations}
    names = pd.concat(telling, axis=1).agg("-".join, axis=1)
    return {name: _part(observations, (names == name).to_numpy()) for name in sorted(names.unique())}


def parts_of(observations: Observations, by: Sequence[str] = ()) -> list[Parts]:
    """The parts that are fitted by themselves, under distinct names: a group a measure, a part a treatment.

    Within a group losses are comparable, between groups not. A single part is named "". A part holds one value of each
    column of `by`, too.
    """
    measures = comparable_parts(observations)
    return [
        {
            "-".join(filter(None, (measure, name, value))): part
            for name, treated in treated_parts(own).items()
            for value, part in _parts_by(treated, by).items()
        }
        for measure, own in measures.items()
    ]


def _parts_by(observations: Observations, by: Sequence[str]) -> Parts:
    """The observations by the values of columns, in their order, under names that can name a folder."""
    table = observations.table
    for column in by:
        if column not in table.columns:
            names = ", ".join(str(name) for name in table.columns)
            raise ValueError(
                f"--by {column!r} is not a column of {', '.join(observations.source)}; choose from {names}"
            )
    if not by:
        return {"": observations}
    parts: Parts = {}
    for number, rows in table.groupby(list(by), dropna=False).indices.items():
        values = number if isinstance(number, tuple) else (number,)
        name = "-".join(
            re.sub(r"[^\w.+=-]+", "-", str(value) if isinstance(value, str) else f"{column}={value}").strip("-.")
            for column, value in zip(by, values, strict=True)
        )
        while name in parts or not name:
            name += "'"
        wanted = np.zeros(len(table), dtype=bool)
        wanted[rows] = True
        parts[name] = _part(observations, wanted)
    return {"": observations} if len(parts) == 1 else parts


def why_apart(groups: Iterable[Parts], by: Sequence[str] = ()) -> list[str]:
    """Lines on the parts fitted apart, with reasons: by treatment within a group, by measure between groups."""
    groups = list(groups)
    lines = [
        f"fitted apart, each by its own law: {_counted(group)}, which differ in {', '.join([*by, *_settings(group)])}"
        for group in groups
        if len(group) > 1
    ]
    if len(groups) > 1:
        names = "; ".join(", ".join(group) for group in groups)
        lines.append(f"never compared, as their losses are of different predictions or texts: {names}")
    return lines


def refuse_mixture(observations: Observations) -> None:
    """ValueError, with the remedy, for runs that must not be put on one curve."""
    measures = comparable_parts(observations)
    if len(measures) > 1:
        raise ValueError(
            f"these runs' losses measure different things and cannot share a fit: {_counted(measures)}; choose one, "
            f"e.g. --where \"`model.kind` == 'decoder'\", or fit each of scaling.analysis.runs.comparable.parts_of"
        )
    parts = treated_parts(observations)
    if len(parts) > 1:
        first = treatments(observations.table)[0]
        value = observations.table[first].dropna().iloc[0]
        raise ValueError(
            f"these runs differ in {', '.join(_settings(parts))} and follow different laws: {_counted(parts)}; "
            f'choose one, e.g. --where "`{first}` == {value!r}", or fit each of '
            "scaling.analysis.runs.comparable.parts_of"
        )
    refuse_pooled_words(observations)


def _splits(table: pd.DataFrame, name: str) -> bool:
    values = _values(table, name)
    if name.startswith("model.") and set(SIZE) <= set(table.columns):
        return bool((values.groupby([table[size] for size in SIZE]).nunique() > 1).any())
    return bool(values.nunique() > 1)


def _values(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """A setting in words that can name a part; a recipe without a parametrization has the standard one."""
    setting = name.rpartition(".")[2]
    choice = table[name].map(lambda v: v if isinstance(v, str) else f"{setting}={str(v).lower()}", na_action="ignore")
    return choice.fillna("standard" if name == "recipe.parametrization.kind" else f"{setting}=unsaid").astype(str)


def _settings(parts: Mapping[str, Observations]) -> list[str]:
    """The settings in which parts of one measure differ."""
    return treatments(pd.concat([part.table for part in parts.values()], ignore_index=True))


def _counted(parts: Mapping[str, Observations]) -> str:
    return ", ".join(f"{name} ({len(part.table)} runs)" for name, part in parts.items())


def _part(observations: Observations, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Observations:
    part = observations.select(rows)
    if part.curves is None:
        return part
    wanted: pd.Series[bool] = part.curves["run_id"].isin(part.table["run_id"])
    return part if wanted.all() else replace(part, curves=part.curves[wanted].reset_index(drop=True))
