"""Checks of a source's rows: no number, not positive, in wrong units or repeated, a row goes out with the reason."""

from typing import Any

import numpy as np
import pandas as pd

from scaling.analysis.runs.number_text import read_numbers
from scaling.analysis.runs.reading import Exclusion

LISTED = 1_000  # rows excluded for one reason; a longer list is summarised
# Less looks like a count in larger units. Tokens come last, as they may have been completed from flops.
SMALLEST = {"params": 1e3, "flops": 1e6, "tokens": 1e3}
LARGER_UNITS = {"params": ("millions or billions", "M"), "tokens": ("millions or billions", "M")}
LARGER_UNITS |= {"flops": ("units of 1e18, or PF-days", "1e18")}
TOKENS_PER_PARAM = (1e-3, 1e6)  # further out, one of the two is in thousands or millions
LARGEST = {"params": 1e16, "tokens": 1e19, "flops": 1e33}  # more than was ever trained, by far
LARGEST_LOSS_NATS = 20.0  # the logarithm of a vocabulary of 485 million
FINISHED = {"finished", "completed", "complete", "done", "success", "succeeded", "ok"}
UNFINISHED = {"crashed", "running", "failed", "killed", "pending", "preempted", "preempting", "diverged", "queued"}
UNFINISHED |= {"canceled", "cancelled", "aborted", "timeout", "oom", "nan", "error", "stopped", "interrupted"}
UNFINISHED |= {"unfinished"}
FLOPS_RATIO = (
    1e-2,
    1e5,
)  # of flops / (params tokens): sparse models lie low, tiny ones with a large head high


class RowChecks:
    """The table under judgement, and the exclusions so far."""

    def __init__(self, table: pd.DataFrame, source: str) -> None:
        """Start from a table with a column row, and run_id where runs have one."""
        self.table = table
        self.source = source
        self.excluded: list[Exclusion] = []
        self.units: list[str] = []  # read from headers and values, in words
        self._text: dict[str, pd.Series[Any]] = {}  # numeric columns that held text, as they were

    def exclude(self, bad: "pd.Series[bool]", reason: str, values: "pd.Series[Any] | None" = None) -> None:
        """Take out the rows where `bad`; `{value}` in the reason stands for the row's own value."""
        if not bad.any():
            return
        rows = self.table.loc[bad, ["row"]].assign(run_id="")
        if "run_id" in self.table.columns:
            rows["run_id"] = self.table.loc[bad, "run_id"].fillna("").astype(str)
        shown = values[bad] if values is not None else rows["row"]
        if len(rows) > LISTED:
            first = ", ".join(str(row) for row in rows["row"].head(3))
            told = reason.format(value=shown.iloc[0])
            self.excluded.append(Exclusion(None, "", f"{len(rows):,} rows (rows {first}, …): {told}"))
        else:
            self.excluded.extend(
                Exclusion(int(row), str(run), reason.format(value=value))
                for row, run, value in zip(rows["row"], rows["run_id"], shown, strict=True)
            )
        self.table = self.table[~bad]
        if self.table.empty:
            last = self.excluded[-1]
            at = "" if last.row is None else f"row {last.row}: "
            raise ValueError(f"{self.source}: no usable row is left; the last to go was {at}{last.reason}")

    def number(self, name: str, given: "pd.Series[Any]") -> None:
        """Enter a column under its own name in the schema, as floats; text becomes NaN, and is remembered."""
        numbers, said = read_numbers(given, name, str(given.name), counts=name not in ("loss", "loss_se", "weight"))
        self.units += [said] if said else []
        self._text[name] = given[numbers.isna() & given.notna()]
        self.table = self.table.assign(**{name: numbers})

    def name_runs(self, given: "pd.Series[Any]") -> None:
        """Enter the runs' names as text, whole numbers without a decimal point; a column without any is left out."""
        if given.isna().all():
            self.table = self.table.drop(columns="run_id", errors="ignore")
            return
        whole = pd.api.types.is_float_dtype(given) and bool((given.dropna() % 1 == 0).all())
        number, names = pd.factorize(given.astype("Int64") if whole else given)
        text = np.array([*map(str, names), None], dtype=object)  # the last is that of no run, number -1
        self.table = self.table.assign(run_id=pd.Series(text[number], index=given.index, dtype=object))

    def convert_loss(self, factor: float | None) -> None:
        """Bring the loss and its standard error to nats by a factor; None takes the logarithm of a perplexity."""
        loss, columns = self.table["loss"], self.table.columns
        slope = factor if factor is not None else 1 / loss
        if factor != 1:
            nats = loss * factor if factor is not None else np.log(loss.where(loss > 0))
            errors = {"loss_se": self.table["loss_se"] * slope} if "loss_se" in columns else {}
            self.table = self.table.assign(loss=nats, **errors)

    def exclude_unfinished(self) -> None:
        """Take out the rows whose run did not finish, by a column that holds nothing but states of runs."""
        for name in ("State", "state", "Status", "status"):
            if name in self.table.columns:
                states = self.table[name].dropna().astype(str).str.strip().str.lower()
                if len(states) and states.isin(FINISHED | UNFINISHED).all():
                    bad = states.isin(UNFINISHED).reindex(self.table.index, fill_value=False)
                    self.exclude(bad, f"{name}: {{value}}", self.table[name])
                    return

    def select(self, where: str) -> None:
        """Keep the rows for which a pandas query holds."""
        try:
            kept = self.table.query(where, local_dict={}, global_dict={})
        except Exception as error:  # pandas raises a dozen kinds for a bad query
            names = ", ".join(str(name) for name in self.table.columns)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"--where {where!r} cannot be evaluated ({reason}); columns: {names}") from error
        if not isinstance(kept, pd.DataFrame):
            raise ValueError(f"--where {where!r} is not a condition on rows; try 'params > 1e8'")
        told = where.replace("{", "{{").replace("}", "}}")
        self.exclude(~self._among(kept.index), f"not selected: --where {told}")

    def exclude_bad_numbers(self, *, any_loss: bool = False) -> None:
        """Take out rows whose needed numbers are text, missing, not finite or not positive, but for any loss."""
        optional = {"flops", "weight", *({"tokens"} if "flops" in self.table.columns else set())}
        if {"tokens", "flops"} <= set(self.table.columns):
            optional.add("params")
        for name in ("params", "tokens", "flops", "loss", "weight"):
            if name not in self.table.columns:
                continue
            text = self._text[name]
            if text.empty and name in optional and self.table[name].isna().all():
                self.table = self.table.drop(columns=name)
                continue
            if len(text):
                told = f"{name} = {{value!r}} is not a number"
                self.exclude(self._among(text.index), told, text.reindex(self.table.index))
            self.exclude(self.table[name].isna(), f"{name} is missing")
            values = self.table[name]
            self.exclude(~np.isfinite(values), f"{name} = {{value}} is not finite", values)
            values = self.table[name]
            if name == "loss" and any_loss:
                continue
            if name == "loss" and (values <= 0).mean() > 0.5:
                self._suspect(values <= 0, values, "loss = {value:g} is not positive; --on linear fits any loss")
            self.exclude(values <= 0, f"{name} = {{value:g}} is not positive", values)

    def exclude_wrong_units(self, *, of_loss: bool = True) -> None:
        """Values that cannot be raw counts or nats: single rows are excluded, a file full of them is
        refused.
        """
        for name, least in SMALLEST.items():
            values = self.table[name]  # NaN, which no comparison suspects, where the source lacks the quantity
            units, example = LARGER_UNITS[name]
            told = (
                f"{name} = {{value:g}} looks like {units}; raw counts are needed, or a unit: "
                f"--rename 'COLUMN={name} ({example})'"
            )
            self._suspect(values < least, values, told)
            values = self.table[name]
            self._suspect(values > LARGEST[name], values, f"{name} = {{value:g}} is beyond any training run")
        loss = self.table["loss"]
        told = "loss = {value:g} looks like a perplexity; nats per token are needed"
        if of_loss:
            self._suspect(loss > LARGEST_LOSS_NATS, loss, told)
        ratio = self.table["tokens"] / self.table["params"]
        self._suspect(
            (ratio < TOKENS_PER_PARAM[0]) | (ratio > TOKENS_PER_PARAM[1]),
            ratio,
            "tokens / params = {value:.3g}: one of them is not a raw count (in ones, not millions)",
        )
        ratio = self.table["flops"] / (self.table["params"] * self.table["tokens"])
        self._suspect(
            (ratio < FLOPS_RATIO[0]) | (ratio > FLOPS_RATIO[1]),
            ratio,
            "flops / (params x tokens) = {value:.3g}, about 6 expected; are flops in PF-days (8.64e19 each)?",
        )

    def _suspect(self, bad: "pd.Series[bool]", values: "pd.Series[Any]", reason: str) -> None:
        if bad.mean() > 0.5:
            rows = ", ".join(str(row) for row in self.table.loc[bad, "row"].head(3))
            more = ", …" if bad.sum() > 3 else ""
            read = f"; read as {'; '.join(self.units)}" if self.units else ""
            raise ValueError(f"{self.source}: {reason.format(value=values[bad].iloc[0])} (rows {rows}{more}){read}")
        self.exclude(bad, reason, values)

    def exclude_duplicates(self, *, has_runs: bool) -> None:
        """Take out rows that repeat an earlier one: same run and numbers, or every column where runs have
        no id.
        """
        table = self.table
        ignored = ("row", "run_id")
        own = ["run_id", "params", "tokens", "flops", "loss"]
        names = (
            own
            if has_runs
            else [str(name) for name in table.columns if name not in ignored and not str(name).startswith("Unnamed:")]
        )
        seen = table.duplicated(names)
        if seen.any():
            first = table.groupby(names, sort=False, dropna=False)["row"].transform("first")
            self.exclude(seen, "the same as row {value}", first)

    def _among(self, index: "pd.Index[Any]") -> "pd.Series[bool]":
        return pd.Series(self.table.index.isin(index), index=self.table.index)
