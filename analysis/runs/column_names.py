"""The names under which people keep parameters, tokens, FLOPs, losses and runs, and the columns that carry them.

A name matches in three steps, and the first step that finds a column decides: a usual name as it stands; a noun with
qualifiers that change nothing, as in "Final Val Loss", "model.n_params" or "Training tokens (B)"; the one column that
has parameters in its name, or the loss of training.
"""

import re
from collections.abc import Mapping

import pandas as pd

from scaling.analysis.runs.number_text import split_header

COUNTS_OF_PARAMS = {
    "non_embedding": "non-embedding parameters",
    "total": "parameters with embeddings",
    "non_embedding_head": "non-embedding parameters and head",
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "params": ("params", "N", "n_params", "num_params", "parameters", "num_parameters", "model_size"),
    "tokens": ("tokens", "D", "n_tokens", "num_tokens", "train_tokens", "training_tokens"),
    "flops": ("flops", "C", "train_flops", "training_flops", "training_flop", "compute"),
    "loss": ("loss", "L", "val_loss", "final_loss", "eval_loss", "test_loss", "loss_nats", "val_loss_nats"),
    "run_id": (
        "run_id",
        "run",
        "run_name",
        "job_id",
        "job_name",
        "wandb_id",
        "experiment_id",
        "exp_id",
        "exp_name",
        "name",
    ),
    "weight": ("weight",),
    "loss_se": ("loss_se",),
    "unique_tokens": ("unique_tokens",),
    "budget": ("budget", "budget_flops", "compute_budget", "flops_budget"),
    "step": (
        "step",
        "_step",
        "steps",
        "global_step",
        "iteration",
        "iterations",
        "iter",
        "iters",
        "trainer_global_step",
    ),
    "tokens_per_step": (
        "tokens_per_step",
        "tokens_per_batch",
        "tokens_per_iteration",
        "tokens_per_iter",
        "batch_tokens",
    ),
}
PLACES = {"config", "cfg", "conf", "args", "hparams", "summary", "metrics", "arch", "model", "value", "final", "last"}
COUNTED = {"n", "num", "number", "nr", "of", "count", "counts", "total", "sum"}
TRAINED = {"train", "training", "trained", "seen", "consumed", "processed", "used"}
VALIDATED = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "held", "out"}
MEASURED = {"lm", "nats", "nat", "per", "token", "tok", "mean", "avg", "average", "cross", "entropy", "ce", "nll"}
NOUNS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "params": (("params",), ("param",), ("parameters",), ("parameter",), ("model", "size")),
    "tokens": (("tokens",), ("token",)),
    "flops": (("flops",), ("flop",), ("compute",)),
    "loss": (("loss",), ("cross", "entropy"), ("ce",), ("nll",), ("xent",)),
}
QUALIFIERS: Mapping[str, set[str]] = {
    "params": (PLACES | COUNTED | {"size", "trainable"}) - {"total"},
    "tokens": PLACES | COUNTED | TRAINED | {"data", "dataset", "size"},
    "flops": PLACES | COUNTED | TRAINED | {"cost"},
    "loss": PLACES | VALIDATED | MEASURED,
}
CONVENTIONS = {  # words beside the noun of parameters -> the counting
    "total": "total",
    "with embedding": "total",
    "with embeddings": "total",
    "including embeddings": "total",
    "incl embeddings": "total",
    "non embedding": "non_embedding",
    "non embeddings": "non_embedding",
    "nonembedding": "non_embedding",
    "non emb": "non_embedding",
    "nonemb": "non_embedding",
    "without embeddings": "non_embedding",
    "excluding embeddings": "non_embedding",
    "excl embeddings": "non_embedding",
    "non embedding head": "non_embedding_head",
}


def words_of(column: str) -> tuple[str, ...]:
    """The words of a column's name, without its unit: ("final", "val", "loss") for FinalValLoss."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", split_header(column)[0])
    return tuple(word for word in re.split(r"[^a-z0-9]+", name.lower()) if word)


def find_names(table: pd.DataFrame, quantity: str) -> list[str]:
    """The columns that carry a quantity by their names; columns without any value carry none."""
    columns = [str(column) for column in table.columns]
    accepted = NAMES[quantity]
    found = _filled(table, [column for column in columns if _usual(column, accepted)])
    if found or quantity not in NOUNS:
        return found
    allowed = QUALIFIERS[quantity]
    with_unit = [column for column in columns if _usual(split_header(column)[0], accepted)]
    qualified = [column for column in columns if _qualified(words_of(column), quantity, allowed)]
    found = _filled(table, list(dict.fromkeys([*with_unit, *qualified])))
    if not found and quantity == "params" and not counted_params(table):
        alike = [name for name in _filled(table, resembling(table, "params")) if "per" not in words_of(name)]
        return alike if len(alike) == 1 else []
    if not found and quantity == "loss":
        allowed = allowed | TRAINED | {"smooth", "smoothed"}
        found = _filled(table, [column for column in columns if _qualified(words_of(column), quantity, allowed)])
    return found


def counted_params(table: pd.DataFrame) -> dict[str, str]:
    """Columns of parameters whose names state the counting, by the convention."""
    found: dict[str, str] = {}
    for column in map(str, table.columns):
        words = words_of(column)
        for noun in NOUNS["params"]:
            if set(noun) <= set(words):
                rest = [word for word in words if word not in noun and word not in QUALIFIERS["params"]]
                convention = CONVENTIONS.get(" ".join(rest))
                own = column == f"params_{convention}"
                if convention is not None and (own or (convention not in found and table[column].notna().any())):
                    found[convention] = column
    return {convention: found[convention] for convention in COUNTS_OF_PARAMS if convention in found}


def resembling(table: pd.DataFrame, quantity: str) -> list[str]:
    """The columns whose names hold a noun of the quantity among words that nothing here knows."""
    nouns = NOUNS.get(quantity, ())
    return [str(name) for name in table.columns if any(set(noun) <= set(words_of(str(name))) for noun in nouns)]


def _filled(table: pd.DataFrame, columns: list[str]) -> list[str]:
    return [column for column in columns if len(columns) == 1 or table[column].notna().any()]


def usual(column: str) -> str:
    """A column's name in the spelling of NAMES: "Final Loss" is final_loss."""
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _usual(column: str, accepted: tuple[str, ...]) -> bool:
    return column in accepted or (len(column) > 1 and usual(column) in accepted)


def _qualified(words: tuple[str, ...], quantity: str, allowed: set[str]) -> bool:
    for noun in NOUNS[quantity]:
        for k in range(len(words) - len(noun) + 1):
            if words[k : k + len(noun)] == noun and set(words[:k] + words[k + len(noun) :]) <= allowed:
                return True
    return False
