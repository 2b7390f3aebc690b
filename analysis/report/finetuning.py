"""A study of fine-tuned runs in words: finetune.json with its figures, and a table for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from scaling.analysis.schema.finetuning import (
    BudgetTransfer,
    EffectiveData,
    Gain,
    SeedMean,
    TransferStatus,
    TunedResults,
)
from scaling.analysis.studies.finetuning import analyse
from scaling.records.files import write_json

BOUNDS: Mapping[TransferStatus, str] = {"within": "", "at least": "at least ", "below": "below "}


def write_results(study: Path) -> tuple[TunedResults, list[Path]]:
    """Analyse the study and write finetune.json and its figures into it; returns the results and the files."""
    from scaling.analysis.figures import finetuning as plots
    from scaling.analysis.figures import paper

    results = analyse(study)
    path = study / "finetune.json"
    write_json(path, results)
    figures = paper.save_all({name: make(results) for name, make in plots.CHARTS.items()}, study)
    return results, [path, *(file for files in figures.values() for file in files)]


def summary(results: TunedResults) -> str:
    """The results as a short table, and the laws of transferred data in words."""
    metric = results["metric"]
    lines = [
        f"{results['study']}: task {results['task']}, {metric} on {results['val_examples']:,} examples; "
        f"each row: the run of the lowest pretraining loss at the largest budget, and its shape from scratch",
        f"{'family':28} {'examples':>8} {metric:>8} {'scratch':>8} {'loss':>7} {'scratch':>7} "
        f"{'gain, paired':>15} {'lower loss in':>14}  transferred",
    ]
    for name, family in results["families"].items():
        for curve, won in zip(family["curves"], family["won"], strict=True):
            best, control = curve["points"][-1], curve["points"][-1]["scratch"]
            lines.append(
                f"{name:28} {curve['examples']:>8,} {best['score']:8.3f} {_or_dash(control, 'score'):>8} "
                f"{best['loss']:7.3f} {_or_dash(control, 'loss'):>7} {_gain(best['gain']):>15} "
                f"{won['won']:>6} of {won['pairs']:<4}  {_transferred(best['transfer'])}"
            )
    for name, family in results["families"].items():
        for law in family["transfer"]:
            lines.append(f"{name}, pretrained for {law['budget_flops']:.3g} FLOPs: {law_words(law)}")
    return "\n".join([*lines, *(f"note: {note}" for note in results["notes"])])


def law_words(law: BudgetTransfer) -> str:
    """The law of transferred data, or the reason why there is none."""
    found = law["law"]
    if found is None:
        return f"no law of transferred data: {law['why']}"
    return (
        f"D_T = {found['k']:.3g} · D_F^{found['alpha']:.2f}±{found['alpha_se']:.2f} · "
        f"N^{found['beta']:.2f}±{found['beta_se']:.2f} ({found['points']} points; {law['left_out']} "
        f"left out as bounds, negative or not determined)"
    )


def _or_dash(one: SeedMean | None, name: Literal["loss", "score"]) -> str:
    return "–" if one is None else f"{one[name]:.3f}"


def _gain(one: Gain | None) -> str:
    return "–" if one is None else f"{one['value']:.3f}" + ("" if one["se"] is None else f" ± {one['se']:.3f}")


def _transferred(found: EffectiveData) -> str:
    if found["transferred"] is None:
        return f"not determined: {found['why']}"
    return f"{BOUNDS[found['status']]}{found['transferred']:,.0f} examples"
