"""Models to fine-tune: a whole model that writes text, or a first tower with a linear head that classifies.

B batch, T tokens, D model width, C classes
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from scaling.model import build
from scaling.model.encoder import Encoder
from scaling.model.tower import TowerModule
from scaling.shapes.shape import TransformerShape
from scaling.spec.run_spec import FinetunedSpec
from scaling.train.checkpoint import final_weights, weights_digest


class Classifier(nn.Module):
    """A classifier: a linear layer, zero at first, on the mean of the first tower's output over the text's tokens.

    Every family takes this mean. The padding of a shorter text is not in it; a decoder's text never sees the padding,
    the other families' text does.
    """

    def __init__(self, model: nn.Module, shape: TransformerShape, classes: int) -> None:
        super().__init__()
        self.model = model
        self.decoder = shape.kind == "decoder"
        self.task_head = nn.Linear(shape.d_model, classes)
        nn.init.zeros_(self.task_head.weight)
        nn.init.zeros_(self.task_head.bias)

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor, seen_B: Tensor | None = None) -> Tensor:
        """Logits (B, 1, C) of the text's class, from its first `lengths_B` tokens."""
        x_BTD = self.hidden(tokens_BT, seen_B)
        own_BT1 = (torch.arange(x_BTD.shape[1], device=x_BTD.device) < lengths_B[:, None]).unsqueeze(-1)
        logits_BC: Tensor = self.task_head((x_BTD * own_BT1).sum(dim=1) / lengths_B[:, None])
        return logits_BC.unsqueeze(1)

    def hidden(self, tokens_BT: Tensor, seen_B: Tensor | None) -> Tensor:
        """The first tower's output, (B, T, D)."""
        embedding, tower = self.model.embedding, self.model.target if self.decoder else self.model.source
        assert isinstance(embedding, nn.Embedding)
        assert isinstance(tower, TowerModule)
        x_BTD = embedding(tokens_BT)
        if isinstance(self.model, Encoder) and self.model.segments is not None:
            x_BTD = x_BTD + self.model.segments.weight[0]
        out_BTD: Tensor = tower(x_BTD, seen_B=seen_B)
        return out_BTD


def start_model(spec: FinetunedSpec, parent_dir: Path | None) -> nn.Module:
    """The model to train, with its parent's weights or random weights, in a classifier where the task has classes.

    Raises ValueError where the parent's weights do not have the digest of its record.
    """
    model = build(spec.model, spec.seed, spec.recipe.multipliers)
    parent = spec.finetuned.parent
    if parent is not None:
        assert parent_dir is not None
        load(model, final_weights(parent_dir), parent_dir, parent.weights_sha256)
    if not spec.finetuned.classes:
        return model
    return Classifier(model, spec.model, spec.finetuned.classes)


def load(model: nn.Module, weights: dict[str, Tensor], parent_dir: Path, weights_sha256: str) -> None:
    """Load a parent's weights, without learned positions beyond the task's length; ValueError for a wrong digest."""
    if weights_digest(weights) != weights_sha256:
        raise ValueError(f"{parent_dir}: its weights are not those of its record; train it again")
    own = model.state_dict()
    fitted = {
        name: tensor[: len(own[name])] if name.endswith("positions.weight") else tensor
        for name, tensor in weights.items()
    }
    model.load_state_dict(fitted)
