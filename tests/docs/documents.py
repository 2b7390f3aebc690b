"""The documents of the project, and the blocks of code in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

MARKER = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line's number, and why no test runs it, if so."""

    language: str
    text: str
    line: int
    not_run: str | None


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document."""
    lines = (ROOT / document).read_text().splitlines()
    fences = [i for i, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) % 2 == 0, f"{document} has a fence without an end"
    found = []
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        marked = MARKER.fullmatch(lines[start - 1])
        text = "\n".join(lines[start + 1 : end])
        found.append(Block(lines[start][3:].strip(), text, start + 2, marked[1] if marked else None))
    return found


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.MULTILINE | re.DOTALL)
