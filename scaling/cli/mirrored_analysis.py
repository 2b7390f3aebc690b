"""The analysis of a study as a run of its own in the trackers: figures, tables of laws and runs, the report's files."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.trackers import check_trackers, start_trackers
from scaling.trackers.tracker import Attachments, TrackedRun, TrackedTable

if TYPE_CHECKING:
    from scaling.analysis.schema.document import Results

SETTING = "tracker.settings."


class AnalysisTrackers:
    """The trackers that a report was asked for; ValueError where one of them could not start."""

    def __init__(self, names: Sequence[str], settings: Sequence[str], runs_dir: Path) -> None:
        """`names` are options of the config group `tracker`, `settings` overrides of tracker.settings."""
        self._names: tuple[str, ...] = ()
        if others := [one for one in settings if not one.startswith(SETTING)]:
            raise ValueError(f"{others[0]}: a report takes no setting but those of its trackers, {SETTING}NAME=VALUE")
        if not names:
            if settings:
                raise ValueError(f"{settings[0]} sets no tracker: add --tracker NAME, e.g. --tracker wandb")
            return
        from scaling.config.config import compose, plain, quoted
        from scaling.config.settings import TrackerSettings

        chosen = [f"tracker=[{','.join(names)}]", f"runs_dir={quoted(runs_dir)}", *settings]
        asked: TrackerSettings = plain(compose(chosen), "tracker")
        self._names, self._settings = asked.chosen(), asked.settings
        check_trackers(self._names, self._settings)

    def mirror(self, part: str, results: "Results", results_file: Path, page: Path) -> None:
        """Show a part's results as a run; the same results again are the same run. Where is printed."""
        if not self._names:
            return
        group = next((name for name in results["observations"]["group"] if name), Path(results["source"][0]).stem)
        config = {name: results[name] for name in ("source", "conventions", "settings", "range", "cost")}
        run_id = "analysis-" + sha256(results_file.read_bytes()).hexdigest()[:12]
        name = f"analysis of {group}" + (f", {part}" if part else "")
        run = TrackedRun(run_id, group, "analysis", name, config, ("analysis",))
        tracker = start_trackers(self._names, run, self._settings)
        figures = {path.stem: path for path in sorted((page.parent / "figures").glob("*.png"))}
        tracker.attach(Attachments(figures, (results_file, page), (laws_table(results), runs_table(results))))
        tracker.finish("done", summary(results))
        for line in tracker.where.splitlines():
            print(f"{name}: {line}")


def laws_table(results: "Results") -> TrackedTable:
    """Every fitted number of every law, with its interval."""
    rows = [list(row) for fit in results["fits"] for row in _numbers(fit)]
    return TrackedTable("laws", ("law", "status", "parameter", "value", "low", "high"), rows)


def runs_table(results: "Results") -> TrackedTable:
    """The runs that the fits use."""
    observations = results["observations"]
    columns = ("run_id", "group", "params", "tokens", "flops", "loss")
    rows = zip(*(observations[name] for name in columns), strict=True)  # type: ignore[literal-required]
    return TrackedTable("runs", columns, [list(row) for row in rows])


def summary(results: "Results") -> Mapping[str, Any]:
    """The values of every law by name, and the number of runs and warnings."""
    laws = {fit["name"]: fit["params"] for fit in results["fits"]}
    return {"law": laws, "runs": len(results["observations"]["run_id"]), "warnings": len(results["warnings"])}


def _numbers(fit: Any) -> Iterator[tuple[Any, ...]]:
    for values, intervals in (("params", "intervals"), ("derived", "derived_intervals")):
        for name, value in fit[values].items():
            ends = fit[intervals].get(name, {})
            yield fit["name"], fit["status"], name, value, ends.get("low"), ends.get("high")
