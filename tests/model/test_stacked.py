"""Stacked layers give every model's own numbers, and copy no table of embeddings."""

from typing import Any

import torch
from torch import Tensor, nn

from scaling.model.stacked import StackedEmbedding
from tests.fake_graph import Tape

MODELS, VOCABULARY, WIDTH, GAP = 3, 11, 5, 7


def tables() -> tuple[Tensor, nn.Parameter]:
    """Rows of flat weights with a gap behind each table, and the tables as their view."""
    flat = torch.randn(MODELS, VOCABULARY * WIDTH + GAP, generator=torch.Generator().manual_seed(0))
    return flat, nn.Parameter(flat[:, : VOCABULARY * WIDTH].view(MODELS, VOCABULARY, WIDTH))


def stacked(weight: nn.Parameter) -> StackedEmbedding:
    layer = StackedEmbedding(nn.Embedding(VOCABULARY, WIDTH), MODELS)
    layer.weight = weight
    return layer


def test_every_model_reads_its_own_table_and_gets_its_own_gradient() -> None:
    _, weight = tables()
    ids = torch.randint(VOCABULARY, (MODELS * 2, 4), generator=torch.Generator().manual_seed(1))
    factor = torch.randn(MODELS * 2, 4, WIDTH, generator=torch.Generator().manual_seed(2))
    out = stacked(weight)(ids)
    (out * factor).sum().backward()
    assert weight.grad is not None
    for r in range(MODELS):
        own = nn.Embedding(VOCABULARY, WIDTH)
        own.weight = nn.Parameter(weight[r].detach().clone())
        here = slice(2 * r, 2 * r + 2)
        expected = own(ids[here])
        (expected * factor[here]).sum().backward()
        assert torch.equal(out[here], expected)
        torch.testing.assert_close(weight.grad[r], own.weight.grad, rtol=1e-6, atol=1e-6)


def test_no_operation_of_a_look_up_copies_the_tables() -> None:
    _, weight = tables()
    with Tape() as tape:
        stacked(weight)(torch.zeros(MODELS, 1, dtype=torch.long))
    made: list[Any] = [out for _, _, _, out in tape.done if isinstance(out, Tensor)]
    own = weight.untyped_storage().data_ptr()
    assert all(out.numel() < weight.numel() for out in made if out.untyped_storage().data_ptr() != own)
