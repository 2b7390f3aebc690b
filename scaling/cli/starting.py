"""The start of continued pretraining on the command line: `init_from` names a run, or a checkpoint that is fetched."""

from collections.abc import Sequence
from pathlib import Path

from scaling.data.files import HUB_NAME

SETTING = "init_from"
OF_THE_PARENT = ("model", "objective")


def with_starts(overrides: Sequence[str]) -> list[str]:
    """The overrides with every published checkpoint that `init_from` names replaced by its weights' folder.

    ValueError for a setting beside `init_from` that the parent decides.
    """
    given = {part.partition("=")[0].lstrip("+"): part.partition("=")[2] for part in overrides if "=" in part}
    asked = given.get(SETTING, "null")
    if asked in ("null", ""):
        return list(overrides)
    for name in given:
        if name.split(".")[0] in OF_THE_PARENT:
            raise ValueError(f"{name} is the parent's with {SETTING}={asked}: leave {name} out")
    cache_dir = Path(given.get("cache_dir", f"{given.get('runs_dir', 'runs')}/cache").strip("'\""))
    starts = ",".join(_start(value.strip("'\""), cache_dir) for value in asked.split(","))
    return [f"{SETTING}={starts}" if part.lstrip("+").startswith(f"{SETTING}=") else part for part in overrides]


def _start(value: str, cache_dir: Path) -> str:
    """A run's folder as it stands; a published checkpoint's weights, fetched into the cache."""
    from scaling.config.config import quoted
    from scaling.plan.parents import START

    folder = Path(value)
    is_ours = any((folder / name).is_file() for name in (START, "record.json", "spec.json"))
    is_published = (
        (folder / "config.json").is_file() if folder.exists() else HUB_NAME.fullmatch(value.partition("@")[0])
    )
    if not is_ours and is_published:
        from scaling.hf.starting import fetch_start

        value = str(fetch_start(value, cache_dir))
        print(f"{SETTING}: weights lie in {value}")
    return quoted(value)
