"""The map in docs/architecture.md: the rooms that there are, in the order of imports that the code is held to."""

import re

import pytest

from tests.docs.documents import ROOT, blocks
from tests.test_imports import ANALYSIS_SEES, KNOWS_HYDRA, ROOMS

PAGE = "docs/architecture.md"


def listed(package: str) -> list[str]:
    """Rooms of a package in the map's order: folders as `name/`, modules as `name.py`."""
    (tree,) = [block.text for block in blocks(PAGE) if block.text.startswith(f"{package}/\n")]
    lines = [re.fullmatch(r"  (\S+) +\S.*", line) for line in tree.splitlines()[1:]]
    assert all(lines), "a line of the map is two spaces, a room and its purpose"
    return [line[1] for line in lines if line]


@pytest.mark.parametrize("package", ROOMS)
def test_the_map_lists_every_room_and_no_other(package: str) -> None:
    folders = [path for path in (ROOT / package).iterdir() if path.is_dir() and not path.is_symlink()]
    there = {f"{path.name}/" for path in folders if any(path.rglob("*.py"))}
    there |= {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    assert sorted(listed(package)) == sorted(there)


@pytest.mark.parametrize("package", ROOMS)
def test_the_map_is_in_the_order_of_imports(package: str) -> None:
    order = [name.removesuffix("/").removesuffix(".py") for name in listed(package)]
    assert [name for name in order if name != "plugins"] == ROOMS[package]


def test_the_page_states_the_exceptions_of_the_order() -> None:
    text = (ROOT / PAGE).read_text()
    seen, hydra = (
        re.search(pattern, text) for pattern in (r"sees of `scaling` only ([^:]*):", r"Only (.*) import Hydra")
    )
    assert seen
    assert set(re.findall(r"`(\w+)`", seen[1])) == ANALYSIS_SEES
    assert hydra
    assert set(re.findall(r"`(\w+)`", hydra[1])) == KNOWS_HYDRA
