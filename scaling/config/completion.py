"""Completion of a setting: its name, or a preset of its config group, as Hydra's own completion finds them."""

from collections.abc import Sequence

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra.core.global_hydra import GlobalHydra

from scaling.config.config import hydra_here, user_search_path


def settings(overrides: Sequence[str], word: str) -> list[str]:
    """Settings and presets that a word may become on a line with these overrides; `name.` and `name=` go on."""
    own = [part for part in user_search_path() if " " not in part]
    with hydra_here(anew=True):
        found = BashCompletion(GlobalHydra.instance().config_loader())._query(
            "config", " ".join([*own, *overrides, word])
        )
    return [str(one) for one in found if one.startswith(word)]
