"""Labels of runs: size, budget, tokens, seed and the settings in which runs differ, so that no two are alike."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scaling.quantities import short

# Prefixes of overrides whose effect a label, or another column of the plan's table, shows.
SHOWN = (
    "budget.",
    "objective",
    "model.n_layers",
    "model.d_model",
    "model.n_heads",
    "recipe.reference_flops",
    "recipe.learning_rate",
    "recipe.batch_tokens",
)


def axes(rows: Iterable[Sequence[str]], shown: tuple[str, ...] = SHOWN) -> list[str]:
    """Settings in which rows of overrides differ, without those that `shown` prefixes name."""
    values: dict[str, set[str]] = {}
    rows = list(rows)
    for row in rows:
        for part in row:
            values.setdefault(part.partition("=")[0], set())
    for row in rows:
        for key, seen in values.items():
            seen.add(setting(row, key))
    return [key for key, seen in values.items() if len(seen) > 1 and not key.startswith(shown)]


def setting(row: Sequence[str], key: str) -> str:
    """The value that a row of overrides gives to a setting; empty where the row gives none."""
    return next((value for name, _, value in (part.partition("=") for part in row) if name == key), "")


def named(key: str) -> str:
    """A setting's name where there is little room: without its section."""
    return key.removeprefix("recipe.").removeprefix("model.")


def labels(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Labels of a plan's lines by run id: `N=154k C=1e+12 D=904k seed=0`, with more where two would be alike."""
    keys = [key for key in axes([line.get("overrides", ()) for line in lines], shown=()) if key != "seed"]
    plain = [key for key in keys if not key.startswith(SHOWN)]
    rates = [key for key in keys if key.startswith(("recipe.learning_rate", "recipe.batch_tokens", "objective"))]
    found = {line["run_id"]: text for line in lines if (text := _label(line, [*plain, *rates]))}
    alike = _repeated(found.values())
    for line in lines:
        if (text := found.get(line["run_id"], "")) in alike and "d_model" in line:
            found[line["run_id"]] = f"{text} {line['n_layers']}x{line['d_model']}/{line['n_heads']}"
    alike = _repeated(found.values())
    return {run_id: f"{text} {run_id}" if text in alike else text for run_id, text in found.items()}


def _label(line: Mapping[str, Any], keys: Sequence[str]) -> str:
    parts = []
    if "n_params" in line:
        parts.append(f"N={short(line['n_params']['non_embedding'])}")
    if "requested_flops" in line:
        parts.append(f"C={line['requested_flops']:.3g}")
    if "train_tokens" in line:
        parts.append(f"D={short(line['train_tokens'])}")
    overrides = line.get("overrides", ())
    seed = line.get("seed", setting(overrides, "seed"))
    parts += [f"seed={seed}"] if seed != "" else []
    own = [(named(key), setting(overrides, key)) for key in keys]
    return " ".join([*parts, *(f"{name}={value}" for name, value in own if value)])


def _repeated(texts: Collection[str]) -> set[str]:
    return {text for text, count in Counter(texts).items() if count > 1}


def side_by_side(texts: Sequence[str]) -> str:
    """Labels of one stack as one, with differing values side by side: `seed=0|1`."""
    words = [text.split(" ") for text in texts]
    if len({tuple(word.partition("=")[0] for word in row) for row in words}) > 1:
        return " + ".join(texts)
    return " ".join(_joined(column) for column in zip(*words, strict=True))


def _joined(words: Sequence[str]) -> str:
    first, *others = dict.fromkeys(words)
    return "|".join([first, *(other.partition("=")[2] for other in others)])
