"""A Hugging Face architecture: a table of the equivalents of our settings and weights.

A name of weights stands for all tensors of a module (weight, bias), with {i} for the layer. A tuple of names means that
our matrix concatenates their matrices along its outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.shapes.families import SHAPES
from scaling.shapes.shape import before

Names = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class Architecture:
    """A Hugging Face class and its equivalent here; a comment's "our" names are ours, "their" names Hugging Face's."""

    model_class: str
    auto_class: str
    preset: str  # name of our preset in conf/model, which also sets a fitting objective
    kind: str
    weights: Names  # our module -> their modules
    fields: Mapping[str, tuple[str, ...]]  # our setting -> their settings, all of which hold our value
    fixed: Mapping[str, Any]  # our setting -> the only value that their class supports; see `only`
    theirs_fixed: Mapping[str, Any]  # their setting -> the only value that we support
    norm: str
    norm_eps: str | None  # their setting; None where eps is torch's default
    activation: str | None  # their setting; None where `fixed` holds ours
    positions: str
    head_width: str | None = None  # their setting; None where it follows from other settings
    always_biased: bool = True  # their class always has biases; a model without biases is exported with zeros
    rotary_pct: str | None = None  # key in their rotary settings; None where every channel is rotated
    qkv_by_head: bool = False  # their matrix holds query, key and value head by head; ours all queries, keys, values
    transposed: frozenset[str] = frozenset()  # our modules whose matrix they store as (inputs, outputs)
    aliases: Mapping[str, str] = field(default_factory=dict)  # their tied weight -> its name in `weights`
    sines_first: bool = False  # their sinusoids are all sines, then all cosines; ours alternate
    on_export: Mapping[str, Any] = field(default_factory=dict)  # further settings of an exported model
    window: str | None = None  # their setting: the last tokens that attention sees, so the most that a context here has

    def only(self) -> dict[str, Any]:
        """Settings with one value in the class: `fixed`, and the options that it lacks at their values from before."""
        has = {*self.fields, *self.fixed, *(("rotary_pct",) if self.rotary_pct else ())}
        lacks = {name: value for name, value in before(SHAPES[self.kind]).items() if name not in has}
        return {**self.fixed, **lacks}


def layers(ours: str, theirs: str, names: Names) -> dict[str, str | tuple[str, ...]]:
    """Weights of all blocks of the towers `ours` and `theirs`, by the names of a block's modules."""

    def full(name: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return f"{theirs}.{{i}}.{name}" if isinstance(name, str) else tuple(f"{theirs}.{{i}}.{part}" for part in name)

    return {f"{ours}.blocks.{{i}}.{name}": full(value) for name, value in names.items()}


def parts(prefix: str, *names: str) -> tuple[str, ...]:
    """Names under one prefix, whose matrices ours concatenates."""
    return tuple(f"{prefix}.{name}" for name in names)
