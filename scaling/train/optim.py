"""The optimizer a spec asks for, with weight decay on matrices only."""

import torch
from torch import nn

from scaling.spec import OptimizerSpec


def build_optimizer(model: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); gains, biases and other vectors do not decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use this learning rate, in every group, from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
