"""Two views of the standard library's text: snippets by module, and functions with their docstrings."""

import ast
import hashlib
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scaling.data.sources import Stdlib

TOPICS = "topics.py"  # the file whose documents are help topics, not code
GAP = 4  # snippets left out between two parts of one file
LARGEST = 1 / 3  # share of a module's text; a larger file always trains, because little would be left otherwise

Snippets = dict[str, list[tuple[str, str]]]  # part -> snippets, each with its document


def module_snippets(count: int, characters: int, shares: Mapping[str, float], rest: str) -> dict[str, Snippets]:
    """Snippets of the `count` modules with the most text, by module and part.

    `shares` are the parts' shares of a module's text; the part `rest` takes the remainder. Raises ValueError for a
    `count` below 2 or above the number of modules.
    """
    root, modules = Path(sysconfig.get_path("stdlib")), dict[str, list[str]]()
    for path, content in Stdlib().contents():
        name = path.relative_to(root).parts[0].removesuffix(".py")
        modules.setdefault(name, []).append(content.decode(errors="replace"))
    largest = sorted(modules, key=lambda name: (-sum(map(len, modules[name])), name))[:count]
    if count < 2 or count > len(modules):
        raise ValueError(f"task.classes={count}: choose from 2 to {len(modules)} modules")
    return {name: _parts(modules[name], characters, shares, rest) for name in largest}


def _parts(documents: Sequence[str], characters: int, shares: Mapping[str, float], rest: str) -> Snippets:
    if len(documents) == 1:
        return _blocks(_snippets(documents[0], characters), shares, rest)
    parts: Snippets = {part: [] for part in (*shares, rest)}
    total, filled = sum(map(len, documents)), dict.fromkeys(shares, 0)
    for document in sorted(documents, key=_digest):
        small = len(document) <= LARGEST * total
        part = next((part for part in shares if small and filled[part] < shares[part] * total), rest)
        if part != rest:
            filled[part] += len(document)
        parts[part] += _snippets(document, characters)
    return parts


def _blocks(snippets: list[tuple[str, str]], shares: Mapping[str, float], rest: str) -> Snippets:
    parts, end = Snippets(), len(snippets)
    for part, share in shares.items():
        start = end - round(share * len(snippets))
        parts[part] = snippets[start:end]
        end = start - GAP
    parts[rest] = snippets[: max(0, end)]
    return parts


def _snippets(document: str, characters: int) -> list[tuple[str, str]]:
    """Snippets of whole lines with at least `characters` characters, without overlap; a shorter end is left out."""
    snippets, held, name = [], "", _digest(document)[:12]
    for line in document.splitlines(keepends=True):
        held += line
        if len(held) >= characters:
            snippets.append((held.strip("\n"), name))
            held = ""
    return snippets


def functions() -> Iterator[tuple[str, str, str]]:
    """Functions with a docstring: their file's text, their source without the docstring, its first paragraph."""
    for path, content in Stdlib().contents():
        if path.name == TOPICS:
            continue
        text = content.decode(errors="replace")
        with warnings.catch_warnings(action="ignore"):  # old files have invalid escapes
            tree = ast.parse(text)
        lines = text.splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < 2:
                continue
            docstring, statement = ast.get_docstring(node), node.body[0]
            begins, ends = statement.lineno, statement.end_lineno or statement.lineno
            if not docstring or begins == node.lineno or node.body[1].lineno == ends:
                continue
            code = textwrap.dedent("\n".join([*lines[node.lineno - 1 : begins - 1], *lines[ends : node.end_lineno]]))
            yield text, code, " ".join(docstring.split("\n\n")[0].split())


def _digest(document: str) -> str:
    return hashlib.sha256(document.encode(errors="replace")).hexdigest()
