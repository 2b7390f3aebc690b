"""The result of a search, as a table on a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from scaling.plan.columns import Column, print_columns
from scaling.quantities import short
from scaling.tune.recipe_file import law_words
from scaling.tune.search import IN_WORDS


def print_search(document: Mapping[str, Any], console: Console) -> None:
    """Print each cell's minima with intervals next to the recipe's values, then the laws in words."""
    print_columns(_columns(document), console)
    noise = document["noise_nats"]
    if noise is not None:
        scatter = f"near a minimum one loss lies {noise:.2g} nats (one standard deviation) about its curve"
        console.print(scatter, style="dim", soft_wrap=True)
    for cell in document["cells"]:
        for arm, words in IN_WORDS.items():
            if cell[arm]["why"]:
                where = f"{cell['shape']} at {cell['budget_flops']:.3g} FLOPs"
                console.print(f"{where}: no best {words}: {cell[arm]['why']}", soft_wrap=True)
    for arm, law in document["laws"].items():
        powers = "".join(
            f" {symbol}^{law[name]:.3g}"
            for name, symbol in (("params", "N"), ("tokens", "D"), ("flops", "C"))
            if law[name]
        )
        evidence = " ".join(law_words(arm, document))
        console.print(f"{IN_WORDS[arm]} = {law['value']:.3g}{powers}. {evidence}", soft_wrap=True)


def _columns(document: Mapping[str, Any]) -> list[Column]:
    cells = document["cells"]
    columns = [
        Column("shape", [cell["shape"] for cell in cells]),
        Column("N", [short(cell["params"]) for cell in cells]),
        Column("tokens", [short(cell["tokens"]) for cell in cells], rank=2),
        Column("C (exact)", [f"{cell['flops']:.3g}" for cell in cells], rank=3),
    ]
    for key, name, form in (("learning_rate", "lr", _two), ("batch_tokens", "batch", short)):
        arms = [cell[key] for cell in cells]
        columns += [
            Column(f"{name} from", [form(arm["recipe"]) for arm in arms]),
            Column(f"{name} best ({document['level']:.0%})", [_best(arm, form) for arm in arms]),
            Column(f"{name} law", [form(arm["law"]) for arm in arms], rank=1),
        ]
    return columns


def _best(arm: Mapping[str, Any], form: Callable[[float], str]) -> str:
    if arm["value"] is None:
        return "-"
    interval = "open" if arm["low"] is None else f"{form(arm['low'])}-{form(arm['high'])}"
    return f"{form(arm['value'])} ({interval})"


def _two(value: float) -> str:
    return f"{value:.2g}"
