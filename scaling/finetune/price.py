"""Exact FLOPs of a fine-tuning example, from the shape's list of matmuls; torch's counter is the witness."""

from scaling.shapes import flops as exact_flops
from scaling.spec.run_spec import FinetunedSpec


def forward_flops_by_group(spec: FinetunedSpec) -> dict[str, int]:
    """Exact forward FLOPs of one example by group; a classification counts its first tower and a linear head alone."""
    shape, classes = spec.model, spec.finetuned.classes
    if not classes:
        return exact_flops.forward_flops_by_group(shape, shape.stream_tokens())
    tower = shape.towers()[0]
    tokens = dict.fromkeys(shape.stream_tokens(), 0) | {tower.stream: tower.tokens}
    groups = exact_flops.forward_flops_by_group(shape, tokens)
    used = {group: flops for group, flops in groups.items() if group not in ("head", "cross_attention")}
    return used | {"task_head": 2 * shape.d_model * classes}


def train_flops_per_example(spec: FinetunedSpec) -> int:
    """Exact training FLOPs of one example, forward and backward."""
    return (1 + exact_flops.BACKWARD_PER_FORWARD) * sum(forward_flops_by_group(spec).values())


def forward_flops_per_example(spec: FinetunedSpec) -> int:
    """Exact forward FLOPs of one example."""
    return sum(forward_flops_by_group(spec).values())
