"""Optimizers of a recipe, with weight decay on matrices only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scaling.model import group_of, is_hidden
from scaling.registry import choose
from scaling.shapes.flops import NEWTON_SCHULZ_STEPS
from scaling.spec.run_spec import OptimizerSpec, RecipeSpec

PEAK = "peak_learning_rate"  # a group's own rate, which the schedule scales
ELEMENTWISE = "elementwise"  # set for a group whose update treats every number by itself, at any tensor shape
MUON_MOMENTUM = 0.95  # with Nesterov's look-ahead (Jordan et al. 2024)

Named = list[tuple[str, Tensor]]


def build_optimizer(model: nn.Module, recipe: RecipeSpec) -> torch.optim.Optimizer:
    """The recipe's optimizer of a model's parameters; gains, biases and other vectors do not decay.

    A parametrization gives the hidden matrices their own learning rate and decay.
    """
    return choose("optimizer", OPTIMIZERS, recipe.optimizer.kind)(list(model.named_parameters()), recipe)


def adamw(named: Named, recipe: RecipeSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019)."""
    spec, scaled = recipe.optimizer, recipe.parametrization
    hidden = [] if scaled is None else [p for name, p in named if is_hidden(name, p)]
    groups = _matrices_and_vectors(_without(named, hidden), spec)
    if scaled is not None:
        own = {"weight_decay": scaled.hidden_weight_decay, PEAK: scaled.hidden_learning_rate}
        groups.append({"params": hidden, **own})
    groups = [{**group, ELEMENTWISE: True} for group in groups]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon on the matrices of the towers (Jordan et al. 2024), AdamW on embeddings, head and vectors.

    Muon's steps are scaled to the size of AdamW's (Liu et al. 2025, section 2.2), so one learning rate serves both.
    """

    def __init__(self, named: Named, recipe: RecipeSpec) -> None:
        spec = recipe.optimizer
        inside = [p for name, p in named if p.ndim == 2 and group_of(name) in ("attention", "cross_attention", "mlp")]
        turned = {"params": inside, "weight_decay": spec.weight_decay, PEAK: spec.learning_rate}
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [turned],
                lr=spec.learning_rate,
                momentum=MUON_MOMENTUM,
                ns_steps=NEWTON_SCHULZ_STEPS,
                adjust_lr_fn="match_rms_adamw",
            ),
            adamw(_without(named, inside), recipe),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step of each part on this optimizer's own state and groups, which checkpoints save and restore."""
        first = 0
        for part in self.parts:
            last = first + len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[first:last]
            part.step()
            first = last


def joined(optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer | None:
    """One AdamW over the parameters and states of all optimizers; None unless all are elementwise and set alike."""
    groups = []
    for same in zip(*(optimizer.param_groups for optimizer in optimizers), strict=True):
        first, *others = [{name: value for name, value in group.items() if name != "params"} for group in same]
        if not first.get(ELEMENTWISE) or any(other != first for other in others):
            return None
        groups.append({**first, "params": [p for group in same for p in group["params"]]})
    together = torch.optim.AdamW(groups, fused=True)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                together.state[parameter] = optimizer.state[parameter]  # a missing state is created here for both
    return together


OPTIMIZERS: dict[str, Callable[[Named, RecipeSpec], torch.optim.Optimizer]] = {"adamw": adamw, "muon": Muon}


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group[PEAK] * factor)
        else:
            group["lr"] = group[PEAK] * factor


def keep_rates_on(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep the learning rates in device memory, where a replayed step reads their current values."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor) or group["lr"].device.type != device.type:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
        group["capturable"] = True


def _without(named: Named, others: list[Tensor]) -> Named:
    apart = {id(p) for p in others}
    return [(name, p) for name, p in named if id(p) not in apart]


def _matrices_and_vectors(named: Named, spec: OptimizerSpec) -> list[dict[str, Any]]:
    return [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": spec.weight_decay, PEAK: spec.learning_rate},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0, PEAK: spec.learning_rate},
    ]
