"""The result of a search, as a table on a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from scaling.plan.columns import wide
from scaling.quantities import short
from scaling.tune.recipe_file import law_words
from scaling.tune.search import IN_WORDS


def print_search(document: Mapping[str, Any], console: Console) -> None:
    """Print each cell's minima with intervals next to the recipe's values, then the laws in words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("shape", "N", "tokens", "C (exact)"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in ("lr", "batch"):
        for name in (f"{arm} from", f"best ({document['level']:.0%})", "law"):
            table.add_column(name, justify="right", no_wrap=True)
    for cell in document["cells"]:
        rate, batch = (_shown(cell[arm], form) for arm, form in (("learning_rate", _two), ("batch_tokens", short)))
        scale = (short(cell["params"]), short(cell["tokens"]), f"{cell['flops']:.3g}")
        table.add_row(cell["shape"], *scale, *rate, *batch)
    wide(console).print(table)
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


def _shown(minimum: Mapping[str, Any], form: Callable[[float], str]) -> tuple[str, str, str]:
    interval = " (open)" if minimum["low"] is None else f" ({form(minimum['low'])}-{form(minimum['high'])})"
    best = "-" if minimum["value"] is None else form(minimum["value"]) + interval
    return form(minimum["recipe"]), best, form(minimum["law"])


def _two(value: float) -> str:
    return f"{value:.2g}"
