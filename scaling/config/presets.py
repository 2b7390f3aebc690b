"""Presets: the files of config groups, in conf/ and in the user's own ./conf, found without Hydra."""

import textwrap
from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
# The configs of an installed wheel lie beside the package's modules, those of a checkout one level up.
CONF_DIR = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if (path / "config.yaml").is_file())
PLAIN = "plain"  # file of settings that the presets of a group share
# Groups that `--help` lists, with the words in which a command line chooses from them.
SHOWN = {"sweep": "+sweep", "model": "model", "data": "data", "recipe": "recipe"}


def presets(group: str) -> list[str]:
    """Names of a group's presets, e.g. `gpt2` of `model`."""
    folders = {CONF_DIR, Path.cwd() / "conf"}
    found = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    return sorted(found - {PLAIN})


def choices() -> str:
    """The presets of every group that a sweep chooses from, one line a group: `model=     bert, gpt2, …`."""
    width = max(map(len, SHOWN.values())) + 1
    rows = [(f"  {f'{asked}=':{width}}  ", ", ".join(presets(group))) for group, asked in SHOWN.items()]
    return "".join(f"{textwrap.fill(head + names, 80, subsequent_indent=' ' * len(head))}\n" for head, names in rows)
