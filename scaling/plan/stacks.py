"""Stacks: runs that can take their steps as one, of one shape and batch size, such as seeds or learning rates.

The step of a small model takes as long as launching its operations. Operations launched once for several models cost
little more than for one. Each run stays a run of its own, the same up to rounding.
"""

from dataclasses import replace

from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import RunSpec, ScheduleSpec

# Tokens of a batch on the CPU: larger batches spend their time on arithmetic, which stacking does not save.
CPU_BATCH_TOKENS = 512


def stack_id(spec: RunSpec) -> str | None:
    """Twelve hex digits over the settings that stacked runs have in common; None for a model that cannot be stacked.

    Stacked runs may differ in seed, schedule and the optimizer's numbers except `clip_norm`; not in shape, data, batch
    or length.
    """
    if why_not_stacked(spec.model):
        return None
    recipe = spec.recipe
    optimizer = replace(recipe.optimizer, learning_rate=0.0, beta1=0.0, beta2=0.0, eps=0.0, weight_decay=0.0)
    scaled = recipe.parametrization
    if scaled is not None:
        scaled = replace(scaled, hidden_learning_rate=0.0, hidden_weight_decay=0.0)
    schedule = ScheduleSpec(kind="any", warmup_steps=0, cooldown_steps=0, cooldown_shape="any", final_fraction=0.0)
    recipe = replace(recipe, optimizer=optimizer, schedule=schedule, parametrization=scaled)
    return replace(spec, recipe=recipe, seed=0).run_id


def why_not_stacked(shape: TransformerShape) -> str:
    """The reason why models of this shape cannot be stacked; empty if they can."""
    if shape.dropout:
        return "dropout is drawn for each by itself"
    if shape.positions_kind == "relative":
        return "relative positions are added to the scores of each by itself"
    if getattr(shape, "has_segments", False):
        return "segments have embeddings of each by itself"
    return ""
