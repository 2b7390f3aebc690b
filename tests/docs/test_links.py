"""Links and images of the documents lead to files, anchors to headings, and flags exist."""

import argparse
import re

import pytest
from hydra._internal.utils import get_args_parser

from scaling.cli.parsers import parsers
from tests.docs.documents import NAMES, ROOT, blocks, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
(SUBPARSERS,) = (one for one in parsers()[0]._actions if isinstance(one, argparse._SubParsersAction))
COMMANDS: dict[str, argparse.ArgumentParser] = SUBPARSERS.choices


def anchors(document: str) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", NAMES)
def test_links_and_images_lead_somewhere(document: str) -> None:
    for target in LINK.findall(prose(document)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        assert found.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(str(found.resolve().relative_to(ROOT))), f"{document} links to {target}"


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def known_flags(text: str) -> set[str]:
    """The flags of the commands that a text names; of all commands where the text names none."""
    named = [name for name in COMMANDS if re.search(rf"\bscaling {name}\b", text)] or list(COMMANDS)
    found = {flag for name in named for flag in flags_of(COMMANDS[name])}
    return found | (flags_of(get_args_parser()) if "train" in named else set())


@pytest.mark.parametrize("document", NAMES)
def test_flags_in_prose_and_tables_exist(document: str) -> None:
    for span in re.findall(r"`([^`]+)`", prose(document)):
        if span.startswith(("--", "scaling ")):
            assert set(FLAG.findall(span)) <= known_flags(span), f"{document}: {span}"


def test_flags_of_commands_that_are_not_run_exist() -> None:
    for document in NAMES:
        for block in blocks(document):
            for line in block.text.splitlines():
                if block.not_run and line.startswith("scaling "):
                    assert set(FLAG.findall(line)) <= known_flags(line), f"{document}: {line}"


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall(prose("README.md")))
    assert {name for name in NAMES if name != "README.md"} <= linked


def test_the_readme_is_a_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("document", NAMES)
def test_blocks_fit_80_columns(document: str) -> None:
    for block in blocks(document):
        assert max(map(len, block.text.splitlines())) <= 80, f"{document}:{block.line}"
