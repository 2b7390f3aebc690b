"""Forecasts registered before their target trains: written once, under the hash of their content, and checked.

The name of a file is the digest of its bytes. An edit, of the time too, gives the bytes another digest; whoever wants
to prove the time to others commits the file, or sends them its name.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, cast

from scaling.analysis.design.targets import matching, records_of, target_of
from scaling.analysis.schema.document import Results
from scaling.analysis.schema.forecast import PredictedQuantity, Prediction
from scaling.analysis.schema.intervals import Estimated
from scaling.analysis.schema.registered import Code, Inputs, RegisteredForecast
from scaling.records.files import create_text, has_links

FOLDER = "predictions"
SCHEMA: Final = 1
DIGITS = 16  # of the digest, in a file's name
TOO_LATE = "a forecast is registered before its target is trained"


@dataclass(frozen=True)
class Registered:
    """A file of predictions/, its forecast, and whether its content is what its name states."""

    path: Path
    forecast: RegisteredForecast | None  # None where the content is not the one that was written


def register(
    results: Results,
    prediction: Prediction,
    results_file: Path,
    folder: Path,
    *,
    code: Code,
    against: Sequence[Path] = (),
    now: datetime | None = None,
) -> tuple[Path, bool]:
    """Write a prediction from `results_file` into folder/predictions, once; returns its path and whether it is new.

    `against` are studies, beside the folder itself, in which the target may have been trained. ValueError where a
    record of the target exists, and for a prediction without a target.
    """
    forecast = _forecast(results, prediction, results_file, folder, code)
    if done := matching(forecast["target"], records_of([*_study(folder), *against])):
        run = done[0]
        raise ValueError(f"{run.study}/{run.run_id} is this target, and finished at {run.ended_at}: {TOO_LATE}")
    for earlier in registered(folder):
        if earlier.forecast is not None and content(earlier.forecast) == content(forecast):
            return earlier.path, False
    forecast["registered_at"] = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    text = json.dumps(forecast, indent=1, allow_nan=False) + "\n"
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{digest(text.encode())}.json"
    try:
        create_text(path, text, links=has_links(place))
    except FileExistsError:  # by another process, in this second
        return path, False
    return path, True


def registered(folder: Path) -> list[Registered]:
    """Every file of folder/predictions, the oldest forecast first, files that were edited last."""
    found = [Registered(path, _read(path)) for path in sorted((folder / FOLDER).glob("*.json"))]
    return sorted(found, key=lambda one: one.forecast["registered_at"] if one.forecast else "~")


def content(forecast: RegisteredForecast) -> dict[str, object]:
    """A forecast without its time, code and results file: equal where the same runs give the same forecast again."""
    kept = {name: value for name, value in forecast.items() if name not in ("registered_at", "code", "inputs")}
    return {**kept, "observations_sha256": forecast["inputs"]["observations_sha256"]}


def digest(data: bytes) -> str:
    """The digest in a file's name."""
    return sha256(data).hexdigest()[:DIGITS]


def _read(path: Path) -> RegisteredForecast | None:
    data = path.read_bytes()
    if digest(data) != path.stem:
        return None
    return cast(RegisteredForecast, json.loads(data))


def _study(folder: Path) -> list[Path]:
    return [folder] if folder.is_dir() else []


def _forecast(
    results: Results, prediction: Prediction, results_file: Path, folder: Path, code: Code
) -> RegisteredForecast:
    """The content of the file, as yet without its time."""
    rows = json.dumps(results["observations"], sort_keys=True).encode()
    own = results_file.parent.absolute()
    inputs: Inputs = {
        "sources": list(results["source"]),
        "runs": len(results["observations"]["row"]),
        "observations_sha256": sha256(rows).hexdigest(),
        "results_sha256": sha256(results_file.read_bytes()).hexdigest(),
        "part": "" if own == folder.absolute() else own.name,
    }
    forecast: RegisteredForecast = {
        "schema": SCHEMA,
        "registered_at": "",
        "target": target_of(results, prediction, folder),
        "loss": _estimated(prediction["loss"]),
        "level": prediction["level"],
        "words": prediction["words"],
        "method": {"name": prediction["law"], "members": _members(results, prediction)},
        "inputs": inputs,
        "code": code,
    }
    if "params" in prediction:
        forecast["params"], forecast["tokens"] = _estimated(prediction["params"]), _estimated(prediction["tokens"])
    return forecast


def _members(results: Results, prediction: Prediction) -> list[str]:
    """The forecasters behind a log mean, or the laws behind one that answers alone."""
    section = results["forecast"].get("ensemble")
    if section is None or prediction["law"] != section["name"]:
        return list(results["forecast"]["forms"])
    return [one["name"] for one in section["members"]]


def _estimated(found: PredictedQuantity) -> Estimated:
    return {"value": found["value"], "low": found["low"], "high": found["high"]}
