"""The optimizer a recipe asks for, with weight decay on matrices only."""

import torch
from torch import nn

from scaling.model import is_hidden
from scaling.spec import RecipeSpec

PEAK = "peak_learning_rate"  # a group's, which the schedule takes a share of


def build_optimizer(model: nn.Module, recipe: RecipeSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); gains, biases and other vectors do not decay.

    A parametrization gives the hidden matrices their own learning rate and decay.
    """
    spec, scaled = recipe.optimizer, recipe.parametrization
    named = list(model.named_parameters())
    hidden = [] if scaled is None else [p for name, p in named if is_hidden(name, p)]
    apart = {id(p) for p in hidden}
    matrices = [p for _, p in named if p.ndim >= 2 and id(p) not in apart]
    vectors = [p for _, p in named if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": spec.weight_decay, PEAK: spec.learning_rate},
        {"params": vectors, "weight_decay": 0.0, PEAK: spec.learning_rate},
    ]
    if scaled is not None:
        own = {"weight_decay": scaled.hidden_weight_decay, PEAK: scaled.hidden_learning_rate}
        groups.append({"params": hidden, **own})
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Use this share of each group's peak learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = group[PEAK] * factor
