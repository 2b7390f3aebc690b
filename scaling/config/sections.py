"""Rows of overrides turned into configurations; a section is read once for the values that decide it.

The cells of a grid share most of their values. A section of the configuration (`model`, `recipe`, `seed`) is read anew
only for values that no earlier cell gave it, which makes a large plan several times as fast.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, partial
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from scaling.config.config import in_words, plain, refuse_unread, typed
from scaling.config.settings import Config
from scaling.registry import choose

NAMES = tuple(field.name for field in fields(Config))
REFERENCE = re.compile(r"\$\{\.*(\w+)")


class Rows:
    """Configurations of rows of overrides over a master configuration; `load` composes a row with Hydra."""

    def __init__(self, master: DictConfig, load: Callable[[Sequence[str]], DictConfig]) -> None:
        self._master, self._load = master, load
        self._sections: dict[tuple[str, ...], Sections] = {}
        self._is_config = cache(partial(is_section, master))

    def config(self, row: Sequence[str]) -> Config:
        """The configuration of a row; ValueError names a setting that does not exist or a value of the wrong type.

        Values are set on what Hydra composes of the row's config groups. A row in more of Hydra's grammar is composed
        as a whole, which takes some 50 ms.
        """
        groups = [part for part in row if self._is_group(part)]
        values = [part for part in row if part not in groups]
        if not all(map(self._is_value, values)):
            return typed(self._load(row), Config)
        key = tuple(groups)
        if key not in self._sections:
            self._sections[key] = Sections(self._load(groups) if groups else self._master)
        return self._sections[key].config(values)

    def _is_group(self, part: str) -> bool:
        key = part.partition("=")[0]
        return "." not in key and "/" not in key and self._is_config(key)

    def _is_value(self, part: str) -> bool:
        key, _, value = part.partition("=")
        if key[0] in "+~" or "/" in key or "@" in key or key.startswith("hydra."):
            return False
        return is_number(value) or not self._is_config(key)  # a number may stand for a law


class Sections:
    """The sections of a configuration, each kept for the values that it was read with."""

    def __init__(self, cfg: DictConfig) -> None:
        refuse_unread(cfg, NAMES)
        self._cfg = cfg.copy()
        with open_dict(self._cfg):
            self._cfg.pop("hydra", None)  # most of a configuration, and no part of a run
        self._raw: dict[str, Any] = _raw(self._cfg)
        self._decide = _deciding(self._cfg)
        self._read: dict[tuple[str, ...], Any] = {}

    def config(self, values: Sequence[str]) -> Config:
        """The configuration with these values."""
        for part in values:
            choose("setting", dict.fromkeys(NAMES), _section(part))
        found = {}
        for name in NAMES:
            mine = [part for part in values if "${" in part or _section(part) in self._decide[name]]
            key = (name, *mine)
            if key not in self._read:
                with self._having(mine):
                    self._read[key] = plain(self._cfg, name)
            found[name] = self._read[key]
        return Config(**found)

    @contextmanager
    def _having(self, values: Sequence[str]) -> Iterator[None]:
        """Within, the configuration has these values."""
        keys = [part.partition("=")[0] for part in values]
        try:
            for key, part in zip(keys, values, strict=True):
                value = OmegaConf.create(f"value: {part.partition('=')[2]}").value
                OmegaConf.update(self._cfg, key, value)
            yield
        except OmegaConfBaseException as error:
            raise ValueError(in_words(error)) from error
        finally:
            for key in keys:
                *path, last = key.split(".")
                before = self._raw
                for name in path:
                    before = before.get(name, {}) if isinstance(before, dict) else {}
                if isinstance(before, dict) and last in before:
                    OmegaConf.update(self._cfg, key, before[last], merge=False)


def is_section(cfg: DictConfig, key: str) -> bool:
    """Whether the key names settings, and no single value."""
    try:
        return bool(OmegaConf.is_config(OmegaConf.select(cfg, key)))
    except OmegaConfBaseException:  # there is no such setting
        return False


def is_number(text: str) -> bool:
    """Whether a value is a number in the spelling of Hydra's grammar."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _section(part: str) -> str:
    """The section that an override sets."""
    return part.partition("=")[0].partition(".")[0]


def _raw(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, references as they are written."""
    raw = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(raw, dict)
    return {str(name): value for name, value in raw.items()}


def _deciding(cfg: DictConfig) -> dict[str, set[str]]:
    """Sections that decide each section: itself and those that it refers to, as in `${runs_dir}/cache`."""
    raw = _raw(cfg)
    decide = {name: {name, *REFERENCE.findall(str(raw[name]))} for name in NAMES}
    for _ in NAMES:  # references of references
        decide = {name: own.union(*(decide.get(other, ()) for other in own)) for name, own in decide.items()}
    return decide
