"""Tasks: texts with answers, in parts that train, choose the step and are scored. Settings: `conf/task/*.yaml`.

All examples of a document (a file, a row) are in one part, so that no two parts share text. The parts are `train`;
`stop`, whose loss chooses the step whose weights a run keeps; and `val`, which alone is scored.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import ClassVar

from scaling.finetune.stdlib_text import functions, module_snippets
from scaling.finetune.tables import read_rows
from scaling.spec.ranges import check_range

TRAIN, STOP, VAL = "train", "stop", "val"
STOP_SHARE = 1 / 3  # share of the held-out documents


@dataclass(frozen=True)
class Example:
    """An example: a text and its answer."""

    text: str
    answer: str  # a class, or the text to write
    group: str  # shared by the examples of one document, whose scores are not independent draws


@dataclass(frozen=True)
class Examples:
    """A task's examples by part."""

    parts: dict[str, tuple[Example, ...]]
    classes: tuple[str, ...]  # names of a classification's classes; empty where the answer is text

    def chosen(self, train: int, stop: int, val: int, seed: int) -> "Examples":
        """Examples drawn from each part by hash: nested `train` sets that the seed decides, the other parts fixed."""
        drawn = {
            TRAIN: by_hash(self.parts[TRAIN], str(seed))[:train],
            STOP: by_hash(self.parts[STOP], "")[:stop],
            VAL: by_hash(self.parts[VAL], "")[:val],
        }
        return Examples(drawn, self.classes)

    @property
    def sha256(self) -> str:
        """The digest of all examples of all parts and of the classes, in order."""
        content = [[astuple(example) for example in self.parts[part]] for part in (TRAIN, STOP, VAL)]
        return hashlib.sha256(json.dumps([content, self.classes]).encode()).hexdigest()


@dataclass
class Task:
    """Settings of every task."""

    kind: str  # a key of TASKS
    examples: list[int]  # sizes of the fine-tuning set, each a run
    scratch_examples: list[int]  # further sizes for the control alone, whose curve determines the transfer
    stop_examples: int  # at most this many examples choose the step
    val_examples: int  # at most this many examples are scored
    generated: int  # at most this many scored examples are answered in full
    held_out: float  # share of the documents that does not train
    source_tokens: int | None  # most tokens of a text; null: as many as the model's context has room for
    target_tokens: int | None  # most tokens of a text answer; null: half the model's context

    classifies: ClassVar[bool]
    metric: ClassVar[str]  # the score that the figures show
    on_stdlib: ClassVar[bool] = False  # whether the texts are the standard library's

    def __post_init__(self) -> None:
        for name in ("examples", "scratch_examples"):
            if wrong := [size for size in getattr(self, name) if size < 1]:
                raise ValueError(f"task.{name} holds {wrong[0]}: sizes of a fine-tuning set are at least 1")
        if not self.examples:
            raise ValueError("task.examples is empty; name sizes of the fine-tuning set, e.g. task.examples=[100,400]")
        for name in ("stop_examples", "val_examples", "generated", "source_tokens", "target_tokens"):
            check_range(f"task.{name}", getattr(self, name), least=1)
        if not 0 < self.held_out < 1:
            raise ValueError(f"task.held_out={self.held_out}: must lie between 0 and 1")

    def rows(self) -> Iterable[tuple[str, Example]]:
        """Every example with its part."""
        raise NotImplementedError

    def read(self) -> Examples:
        """The task's examples; ValueError where a model cannot be fine-tuned on them."""
        parts = apart(self.rows())
        answers = {example.answer for examples in parts.values() for example in examples}
        if self.classifies and len(answers) < 2:
            raise ValueError(
                f"task={self.kind}: every example is of the class {next(iter(answers), '')!r}; a classification needs "
                f"two or more: add examples of another, or name the right column"
            )
        for part, examples in parts.items():
            if len(examples) < 2:
                raise ValueError(
                    f"task={self.kind}: {len(examples)} examples for {part} at task.held_out={self.held_out}; give "
                    f"more examples, or hold out another share"
                )
        if (largest := max([*self.examples, *self.scratch_examples])) > len(parts[TRAIN]):
            raise ValueError(
                f"task={self.kind}: {largest:,} examples are asked for, but {len(parts[TRAIN]):,} train; choose "
                f"task.examples and task.scratch_examples up to that, or lower task.held_out={self.held_out}"
            )
        return Examples(parts, tuple(sorted(answers)) if self.classifies else ())

    def part_of(self, document: str) -> str:
        """The part of a document, by the hash of its text."""
        fraction = int(hashlib.sha256(document.encode()).hexdigest()[:13], 16) / 16**13
        if fraction >= self.held_out:
            return TRAIN
        return STOP if fraction < self.held_out * STOP_SHARE else VAL


@dataclass
class Modules(Task):
    """The module of a snippet, among the standard library's largest; every part has as many snippets of each module.

    A file of a package is in one part whole. A module of one file is cut into a beginning that trains, a middle that
    chooses the step and an end that is scored, with gaps between them; the parts share an author, which makes the task
    easier.
    """

    classes: int
    characters: int  # least characters of a snippet, which ends with a line
    classifies = True
    metric = "accuracy"
    on_stdlib = True

    def rows(self) -> Iterable[tuple[str, Example]]:
        shares = {VAL: self.held_out * (1 - STOP_SHARE), STOP: self.held_out * STOP_SHARE}
        modules = {
            name: apart((part, Example(text, name, group)) for part, texts in parts.items() for text, group in texts)
            for name, parts in module_snippets(self.classes, self.characters, shares, TRAIN).items()
        }
        for part in (TRAIN, STOP, VAL):
            drawn = {name: by_hash(parts[part], "") for name, parts in modules.items()}
            fewest = min(len(examples) for examples in drawn.values())
            for examples in drawn.values():
                yield from ((part, example) for example in examples[:fewest])


@dataclass
class Labelled(Task):
    """Labels of texts, from two columns of a CSV, TSV or JSONL file."""

    path: str
    text_field: str
    label_field: str
    classifies = True
    metric = "accuracy"

    def rows(self) -> Iterable[tuple[str, Example]]:
        for text, label in read_rows(Path(self.path), {"text_field": self.text_field, "label_field": self.label_field}):
            yield self.part_of(text), Example(text, label, text)


@dataclass
class Docstrings(Task):
    """The first paragraph of a docstring, from its function's other code; a file's functions are in one part."""

    classifies = False
    metric = "rouge_l"
    on_stdlib = True

    def rows(self) -> Iterable[tuple[str, Example]]:
        for content, code, docstring in functions():
            yield self.part_of(content), Example(code, docstring, hashlib.sha256(content.encode()).hexdigest()[:12])


@dataclass
class Translation(Task):
    """Pairs of texts from two columns of a CSV, TSV or JSONL file."""

    path: str
    source_field: str
    target_field: str
    classifies = False
    metric = "bleu"

    def rows(self) -> Iterable[tuple[str, Example]]:
        fields = {"source_field": self.source_field, "target_field": self.target_field}
        for source, target in read_rows(Path(self.path), fields):
            yield self.part_of(source), Example(source, target, source)


TASKS: dict[str, type[Task]] = {
    "modules": Modules,
    "sentiment": Labelled,
    "docstrings": Docstrings,
    "translation": Translation,
}


def apart(rows: Iterable[tuple[str, Example]]) -> dict[str, tuple[Example, ...]]:
    """Examples by part, each text once: a text that trains is in no other part, even where a document repeats it."""
    by_part: dict[str, list[Example]] = {TRAIN: [], STOP: [], VAL: []}
    for part, example in rows:
        by_part[part].append(example)
    seen: set[str] = set()
    distinct = {}
    for part, examples in by_part.items():
        first = {example.text: example for example in reversed(examples) if example.text not in seen}
        seen |= first.keys()
        distinct[part] = tuple(first.values())
    return distinct


def by_hash(examples: Sequence[Example], salt: str) -> tuple[Example, ...]:
    """Examples in an order that only their own content and the salt decide."""

    def place(example: Example) -> bytes:
        return hashlib.sha256(f"{salt}\0{example.text}\0{example.answer}".encode()).digest()

    return tuple(sorted(examples, key=place))
