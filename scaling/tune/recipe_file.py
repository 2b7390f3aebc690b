"""The recipe file of a search in the user's own conf/, and the command that trains with the recipe."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.config.config import compose, recipe_values
from scaling.quantities import short
from scaling.spec.recipe import LAWS
from scaling.tune.search import IN_WORDS

Json = dict[str, Any]


def write_recipe(document: Mapping[str, Any], searched: Mapping[str, Any]) -> Path:
    """Write ./conf/recipe/STUDY-tuned.yaml: the searched recipe with the laws of `judge`'s document; return its path.

    Raises ValueError when no cell has a minimum of the learning rate.
    """
    if not document["laws"]["learning_rate"]["cells"]:
        why = "; ".join(f"{cell['shape']}: {cell['learning_rate']['why']}" for cell in document["cells"])
        raise ValueError(f"no learning rate was found, so no recipe is written ({why})")
    path = Path("conf") / "recipe" / f"{document['study']}-tuned.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_text(document, searched))
    return path


def recipe_text(document: Mapping[str, Any], searched: Mapping[str, Any]) -> str:
    """The recipe as YAML, with the evidence of its laws in comments."""
    values = {
        **searched,
        "tuned": {name: [float(f"{end:.6g}") for end in ends] for name, ends in document["tuned"].items()},
    }
    for arm, law in document["laws"].items():
        names = ("value", "params", "tokens", "flops", "at_least", "at_most")
        values[arm] = {name: law[name] and float(f"{law[name]:.6g}") for name in names}
    lines = [f"# {line}" for line in provenance(document)]
    for name, value in values.items():
        lines += [f"# {line}" for line in law_words(name, document)] if name in document["laws"] else []
        if isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values()):
            lines += [f"{name}:", *(f"  {key}: {_flow(inner)}" for key, inner in value.items())]
        else:
            lines.append(f"{name}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def provenance(document: Mapping[str, Any]) -> list[str]:
    """The runs behind the recipe and its valid ranges, in lines."""
    tuned, cells = document["tuned"], len(document["cells"])
    params, tokens, batches = (_range(tuned[name]) for name in ("params", "tokens", "batch_tokens"))
    low, high = tuned["learning_rate"]
    return [
        f"Tuned by `scaling tune` for {document['study']}: {document['runs']} runs,",
        f"{document['diverged']} of them diverged, in {cells} cells; {params} parameters, {tokens} tokens;",
        f"learning rates {low:.2g} to {high:.2g}, batches of {batches} tokens. Beyond that it is extrapolated.",
    ]


def law_words(arm: str, document: Mapping[str, Any]) -> list[str]:
    """The evidence of one law, in lines: its intervals, and the exponents kept from the searched recipe."""
    law = document["laws"][arm]
    if not law["cells"]:
        return [f"The searched recipe's {IN_WORDS[arm]}, unchanged: {law['why']}."]
    symbols = {"params": "N", "tokens": "D"}
    ends = [f"{symbols[name]}^{low:.3g} to {high:.3g}" for name, (low, high) in law["intervals"].items()]
    ends = [*ends, f"its middle within a factor {law['factor']:.3g}"]
    cells = f"{law['cells']} cell{'s' if law['cells'] > 1 else ''}"
    lines = [f"Through the best {IN_WORDS[arm]} of {cells}; {document['level']:.0%} intervals: {', '.join(ends)}."]
    if law["kept"]:
        which = " and of ".join(symbols[name] for name in law["kept"])
        precision = f"±{document['identified']:.1g}"
        lines.append(f"The exponent of {which} is the searched recipe's: these cells do not tell it to {precision}.")
    return lines


def command(name: str, overrides: Sequence[str]) -> str:
    """The command that trains the sweep of these overrides with the recipe `name`.

    The command repeats the recipe's values that the sweep's own file would override.
    """
    others = [override for override in overrides if not override.startswith(("recipe=", "recipe."))]
    wanted, composed = (compose([*own, f"recipe={name}"]) for own in ([], others))
    values = recipe_values(wanted)
    # A number has no settings of its own to override, so a law in its place is given as a whole.
    whole = {f"recipe.{law}": values[law] for law in LAWS if not isinstance(composed.recipe[law], Mapping)}
    given = _leaves(recipe_values(composed))
    parts = {key: value for key, value in _leaves(values).items() if given.get(key) != value}
    parts = {key: value for key, value in parts.items() if key.rpartition(".")[0] not in whole}
    needed = [f"{key}={_flow(value)}" for key, value in {**whole, **parts}.items()]
    return shlex.join(["scaling", "train", *others, f"recipe={name}", *needed, "-m"])


def _leaves(values: Mapping[str, Any], prefix: str = "recipe") -> Json:
    leaves: Json = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}.{name}") if isinstance(value, Mapping) else {f"{prefix}.{name}": value}
    return leaves


def _range(ends: Sequence[float]) -> str:
    return f"{short(ends[0])} to {short(ends[1])}"


def _flow(value: Any) -> str:
    """A value in YAML's one-line form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
