"""Grades of registered forecasts: the measured loss of the target against the interval, and the running calibration."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import NormalDist

from scaling.analysis.design.registration import Registered, registered
from scaling.analysis.design.targets import counts, differing, is_near, matching, records_of
from scaling.analysis.schema.registered import GradedRun, GradeEntry, GradesSection, GradeState, RegisteredForecast
from scaling.analysis.words import count as counted
from scaling.analysis.words import flops_text, percent, sentence
from scaling.records.record import DONE, RunRecord

DOUBT = 0.05  # probability below which too few intervals hold their truth for chance
MOST_NAMED = 3  # settings of a run that is the target but for these


def grades_section(folder: Path, against: Sequence[Path] = (), part: str | None = None) -> GradesSection | None:
    """The grades of the forecasts registered in a folder, by its own runs and by studies `against`; None without any.

    `part` keeps the forecasts of one part of the study.
    """
    found = [one for one in registered(folder) if part is None or _part(one) in (None, part)]
    if not found:
        return None
    records = records_of([folder, *against])
    entries = [_grade(one, records) for one in found]
    judged = [one for one in entries if one["inside"] is not None and one["state"] == "graded"]
    inside = sum(bool(one["inside"]) for one in judged)
    return {
        "entries": entries,
        "graded": len(judged),
        "inside": inside,
        "words": calibration_words([_level(one) for one in judged], inside),
    }


def _part(one: Registered) -> str | None:
    return None if one.forecast is None else one.forecast["inputs"]["part"]


def _level(entry: GradeEntry) -> float:
    assert entry["forecast"] is not None
    return entry["forecast"]["level"]


def calibration_words(levels: Sequence[float], inside: int) -> str:
    """The number of intervals that held their truth, and whether that is too few for chance."""
    if not levels:
        return "no registered interval has met its run yet"
    level, n = sum(levels) / len(levels), len(levels)
    chance = sum(math.comb(n, k) * level**k * (1 - level) ** (n - k) for k in range(inside + 1))
    doubt = (
        f"; so few have a probability of {chance:.2g} by chance: the intervals are too narrow" if chance < DOUBT else ""
    )
    return f"{inside} of {n} registered {level:.0%} intervals held the measured loss{doubt}"


def _grade(one: Registered, records: Sequence[RunRecord]) -> GradeEntry:
    forecast = one.forecast
    if forecast is None:
        words = f"{one.path} was edited: its content is not the one that its name is the digest of, and is not graded"
        return _entry(one, "damaged", words, None, 0)
    target = forecast["target"]
    found = matching(target, records)
    if not found:
        return _entry(one, "waiting", _waiting(forecast, records), None, 0)
    record = found[0]
    run: GradedRun = {
        "run_id": record.run_id,
        "study": record.study,
        **counts(target, record),  # type: ignore[typeddict-item]
        "loss": record.val_loss_nats if record.status == DONE else None,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }
    named = f"{record.study}/{record.run_id}"
    if record.status != DONE or not record.val_loss_nats:
        return _entry(one, "diverged", f"its run {named} {record.status} and has no loss", run, len(found))
    error, z, inside = score(forecast, record.val_loss_nats)
    alone = "" if target["settings"] else "; matched by its counts alone, since the forecast's runs state no settings"
    where = "no interval was stated" if inside is None else f"{'inside' if inside else 'OUTSIDE'} the interval"
    off = f"{named} measured {record.val_loss_nats:.4g}: the forecast is off by {percent(error)}, {where}"
    off += "" if z is None else f" (z = {z:+.2f})".replace("-", "−")
    off += alone
    late = _time(record.started_at) < _time(forecast["registered_at"])
    if late:
        off = f"registered after its run {named} had started, so it counts for nothing; {off}"
    return _entry(one, "late" if late else "graded", off, run, len(found)) | {"error": error, "z": z, "inside": inside}


def score(forecast: RegisteredForecast, loss: float) -> tuple[float, float | None, bool | None]:
    """Error of the forecast as a share of the measured loss; z and whether it is inside, None without an interval."""
    stated = forecast["loss"]
    value, low, high = stated["value"], stated["low"], stated["high"]
    error = value / loss - 1
    if low is None or high is None or not low < value < high:
        return error, None, None
    half = math.log(high / value) if loss > value else math.log(value / low)
    sd = half / NormalDist().inv_cdf((1 + forecast["level"]) / 2)
    return error, math.log(loss / value) / sd, low <= loss <= high


def describe_target(forecast: RegisteredForecast) -> str:
    """The target of a forecast in words."""
    target = forecast["target"]
    return (
        f"{counted(target['params'])} parameters on {counted(target['tokens'])} tokens ({flops_text(target['flops'])})"
    )


def grade_lines(section: GradesSection | None) -> list[str]:
    """A line for every registered forecast and one for their calibration; none without a section."""
    if section is None:
        return []
    lines = []
    for one in section["entries"]:
        named = Path(one["file"]).stem
        forecast = one["forecast"]
        about = "" if forecast is None else f" ({describe_target(forecast)}, {_stated(forecast)})"
        lines.append(f"forecast {named}{about}: {one['state']}; {one['words']}")
    return [*lines, sentence(section["words"])]


def _stated(forecast: RegisteredForecast) -> str:
    loss = forecast["loss"]
    ends = "" if loss["low"] is None or loss["high"] is None else f" [{loss['low']:.4g}, {loss['high']:.4g}]"
    return f"loss {loss['value']:.4g}{ends}"


def _waiting(forecast: RegisteredForecast, records: Sequence[RunRecord]) -> str:
    near = next((record for record in records if is_near(forecast["target"], record)), None)
    if near is None:
        return "no run of this target has finished; name its study with --against if it lies elsewhere"
    others = differing(forecast["target"], near)
    named = ", ".join(f"{name} {own} for {wanted}" for name, (wanted, own) in list(others.items())[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return f"{near.study}/{near.run_id} has the target's counts but other settings ({named}{more})"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _entry(one: Registered, state: GradeState, words: str, run: GradedRun | None, matches: int) -> GradeEntry:
    return {
        "file": str(one.path),
        "state": state,
        "words": words,
        "forecast": one.forecast,
        "run": run,
        "matches": matches,
        "error": None,
        "z": None,
        "inside": None,
    }
