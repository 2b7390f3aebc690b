"""Models are sharded block by block, tried without processes by torch's fake process group."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from scaling.model import FAMILIES as MODULES
from scaling.model import build
from scaling.model.layers import Block
from scaling.shapes.matmuls import parameter_counts
from scaling.train.parallel.sharding import mesh_of, shard
from tests.examples import FAMILIES

RANKS = 64


@pytest.fixture
def fake() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shards", [RANKS, RANKS // 2])
@pytest.mark.parametrize("family", MODULES)
def test_a_rank_holds_its_share_of_every_parameter(family: str, shards: int, precision: str) -> None:
    shape = replace(FAMILIES[family][0], d_model=128, n_heads=2, n_kv_heads=2, d_ff=512, vocab_size=256, context=64)
    with torch.device("meta"):
        model = build(shape, 0)
    names = [name for name, _ in model.named_parameters()]
    root = shard(model, mesh_of(torch.device("cpu"), RANKS, shards, 60.0), precision)
    held = dict(model.named_parameters())
    assert list(held) == names
    for parameter in held.values():
        rows = -(-len(parameter) // shards)
        assert parameter.to_local().shape == (rows, *parameter.shape[1:])
    assert sum(parameter.numel() for parameter in held.values()) == parameter_counts(shape)["total"]
    groups = [module for module in model.modules() if type(module).__name__.startswith("FSDP")]
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    parts = [part for block in blocks for name, part in block.named_children() if name in PARTS]
    assert groups == (blocks if precision == "fp32" else parts)
    assert root.model is model


PARTS = ("attention", "cross_attention", "mlp")
