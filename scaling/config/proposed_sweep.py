"""A sweep file of proposed runs, which extends the sweep that trained a study by single cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.config.presets import presets
from scaling.registry import choose

SLACK = 1.1  # of the cap, since whole steps miss a budget


def write_sweep(name: str, base: str, study: str, runs: Sequence[Mapping[str, Any]], question: str) -> Path:
    """Write ./conf/sweep/NAME.yaml: the sweep `base` with these runs as its cells, in the same study; its path.

    A run has shape (layers, width, heads), flops and seeds. ValueError for an unknown base.
    """
    choose("sweep", dict.fromkeys(presets("sweep")), base)
    path = Path("conf") / "sweep" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sweep_text(base, study, runs, question))
    return path


def sweep_text(base: str, study: str, runs: Sequence[Mapping[str, Any]], question: str) -> str:
    """The sweep as YAML: its cells advance together, one a run."""
    cells = [(one["flops"], *one["shape"], seed) for one in runs for seed in one["seeds"]]
    names = ("budget.flops", "model.n_layers", "model.d_model", "model.n_heads", "seed")
    columns = [
        f"      {name}: [{', '.join(f'{value:.6g}' for value in values)}]"
        for name, values in zip(names, zip(*cells, strict=True), strict=True)
    ]
    total = SLACK * sum(cell[0] for cell in cells)
    lines = [
        "# @package _global_",
        f"# Written by `scaling next`: runs that extend the sweep {base}.",
        "defaults:",
        f"  - {base}",
        "  - _self_",
        "",
        f"question: {question}",
        f"study: {study}",
        "budget:",
        f"  total_flops: {total:.4g}",
        "hydra:",
        "  sweeper:",
        "    budgets: []",
        "    shapes: []",
        "    sizes: null",
        "    axes: {seed: []}  # of the cells below",
        "    zip:",
        *columns,
    ]
    return "\n".join(lines) + "\n"
