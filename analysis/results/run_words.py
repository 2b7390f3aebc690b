"""Runs in words that a reader can place: one by its size and budget, where its name is a hash; several by number."""

from collections.abc import Collection, Iterable

from scaling.analysis.schema.document import Results
from scaling.analysis.words import count, scientific


def run_words(results: Results, run: str, among: Collection[str] = ()) -> str:
    """Size and budget of a run, e.g. `1.30M, 10¹² FLOPs`; its name follows where another `among` them is alike.

    A run of several rows is named by its last one; the name alone stands for rows that are resampled together.
    """
    words = _size_and_budget(results, run)
    if not words:
        return run
    alike = any(other != run and _size_and_budget(results, other) == words for other in among)
    return f"{words}, {run[:6]}" if alike else words


def counted(results: Results, places: Iterable[int] | None = None) -> str:
    """The number of runs at some places of the observations, all by default, and of checkpoints where these are more.

    Words such as `10 runs`, or `30 checkpoints of 3 runs`.
    """
    names = results["observations"]["run_id"]
    rows = names if places is None else [names[place] for place in places]
    runs = len(set(rows))
    words = f"{runs} run{'' if runs == 1 else 's'}"
    return words if runs == len(rows) else f"{len(rows)} checkpoints of {words}"


def outside(results: Results) -> str:
    """The runs that no budget holds, in words; empty where there are none."""
    study, budgets = results["isoflop"], results["observations"]["budget"]
    if study is None or not study["runs_in_no_budget"]:
        return ""
    words = counted(results, [place for place, budget in enumerate(budgets) if budget is None])
    return f"{words} {'lies' if words == '1 run' else 'lie'} in no budget"


def _size_and_budget(results: Results, run: str) -> str:
    runs = results["observations"]
    if run not in runs["run_id"]:
        return ""
    k = len(runs["run_id"]) - 1 - runs["run_id"][::-1].index(run)
    budget, study = runs["budget"][k], results["isoflop"]
    flops = runs["flops"][k] if study is None or budget is None else study["budgets"][budget]["budget_flops"]
    size = runs["params"][k]  # tables of one variable lack the size or the compute
    parts = [count(size)] if size is not None else []
    return ", ".join([*parts, *([f"{scientific(flops, 2)} FLOPs"] if flops is not None else [])])
