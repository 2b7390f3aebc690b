"""Memory: predicted tensor by tensor, weighed against what autograd keeps and what the process takes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.model import build
from scaling.model.tower import recompute_activations
from scaling.shapes.flops import recompute_flops_per_sequence, train_flops_per_sequence
from scaling.shapes.matmuls import parameter_counts
from scaling.shapes.shape import TransformerShape
from scaling.spec.memory import Activations, activations, chosen, largest_micro_batch, step_bytes
from scaling.spec.run_spec import RunSpec, to_dict
from scaling.train.parallel.ranks import meeting_place
from tests.examples import ENCODER, ENCODER_DECODER, GPT2, SPEC

SEQUENCES = 4
SIZES = {"n_layers": 3, "d_model": 64, "n_heads": 4, "n_kv_heads": 4, "d_ff": 256, "vocab_size": 128, "context": 40}
SHAPES = {
    "decoder": replace(GPT2, **SIZES),
    "decoder, post-norm": replace(GPT2, **SIZES, norm_place="post"),
    "decoder, dropout": replace(GPT2, **SIZES, dropout=0.1),
    "decoder, as in Llama": replace(
        GPT2, **{**SIZES, "n_kv_heads": 2}, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False
    ),
    "decoder, as in Pythia": replace(
        GPT2, **SIZES, positions="rotary", rotary_pct=0.25, parallel_residual=True, tied_embeddings=False
    ),
    "decoder, parallel, dropout": replace(GPT2, **SIZES, parallel_residual=True, norm="rmsnorm", dropout=0.1),
    "decoder, squared ReLU": replace(GPT2, **SIZES, activation="relu2"),
    "decoder, relative": replace(GPT2, **SIZES, positions="relative"),
    "encoder": replace(ENCODER, **SIZES, predicted=8),
    "encoder-decoder": replace(ENCODER_DECODER, **SIZES, target_context=12),
    "encoder-decoder, dropout": replace(ENCODER_DECODER, **SIZES, target_context=30, dropout=0.1),
}


def spec_of(shape: TransformerShape, precision: str = "fp32") -> RunSpec:
    return replace(SPEC, model=shape, recipe=replace(SPEC.recipe, precision=precision, batch_sequences=SEQUENCES))


def inputs_of(shape: TransformerShape) -> tuple[torch.Tensor, ...]:
    tokens = torch.randint(shape.vocab_size, (SEQUENCES, shape.context))
    if shape.kind == "encoder":
        return tokens, torch.randint(shape.context, (SEQUENCES, shape.stream_tokens()["predicted"]))
    if shape.kind == "encoder_decoder":
        return tokens, torch.randint(shape.vocab_size, (SEQUENCES, shape.towers()[1].tokens))
    return (tokens,)


def kept_bytes(spec: RunSpec) -> float:
    """What autograd holds on to after a forward pass, weights and buffers apart, for one sequence."""
    model = build(spec.model, 0)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_copy = tensor.dtype == torch.bfloat16 and tensor.shape in weights
        if storage.data_ptr() not in own and not is_copy:
            kept[storage.data_ptr()] = storage
        return tensor

    weights = {shape for p in model.parameters() for shape in (p.shape, p.shape[::-1])}  # autocast copies them
    bf16 = torch.autocast("cpu", dtype=torch.bfloat16, enabled=spec.recipe.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), bf16:
        model(*inputs_of(spec.model))
    return sum(storage.nbytes() for storage in kept.values()) / SEQUENCES


def kept_before_the_loss(spec: RunSpec) -> int:
    """Bytes predicted for one sequence, less the gradient of the head's input, which has not come yet."""
    shape = spec.model
    last = shape.head_matmuls()[-1]
    to_read = shape.stream_tokens()[last.stream] * last.fan_in * (2 if spec.recipe.precision == "bf16" else 4)
    return activations(spec).kept(recomputed=False) - to_read


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SHAPES)
def test_activations_are_what_autograd_keeps(name: str, precision: str) -> None:
    spec = spec_of(SHAPES[name], precision)
    assert kept_before_the_loss(spec) == pytest.approx(kept_bytes(spec), rel=0.05)


@pytest.mark.parametrize(
    "name",
    ["decoder", "decoder, post-norm", "decoder, as in Pythia", "decoder, relative", "encoder", "encoder-decoder"],
)
def test_a_wide_models_activations_are_within_two_in_a_thousand_of_what_autograd_keeps(name: str) -> None:
    spec = spec_of(replace(SHAPES[name], d_model=512, d_ff=2048, n_layers=1))
    assert kept_before_the_loss(spec) == pytest.approx(kept_bytes(spec), rel=2e-3)


def test_recomputing_keeps_the_blocks_inputs_and_one_block_at_a_time() -> None:
    one = Activations(layers=1_000_000, largest_layer=200_000, inputs=30_000, ends=4_000, head=500, passing=60)
    assert one.kept(recomputed=False) == 1_004_500
    assert one.kept(recomputed=True) == 234_500


PROCESS = """
import json, sys
import torch
from scaling.model import build
from scaling.objectives.batch import Batch
from scaling.spec.run_spec import from_dict
from scaling.train.step import Stepper
torch.set_num_threads(1)
spec = from_dict(json.loads(sys.argv[1]))
sequences, shape = spec.recipe.batch_sequences, spec.model

def memory(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return 1024 * int(line.split()[1])

def steps(shape, count):
    stepper = Stepper(build(shape, 0), spec.recipe, sequences, torch.device("cpu"))
    for _ in range(count):
        tokens = torch.randint(shape.vocab_size, (sequences, shape.context))
        stepper.take(Batch((tokens,), tokens, None, tokens.numel()), 1.0)

from dataclasses import replace
steps(replace(shape, n_layers=1, d_model=16, d_ff=16, vocab_size=16, context=8), 1)
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts again
before = memory("VmRSS")
steps(shape, 2)
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for a process's peak memory")
@pytest.mark.parametrize(
    ("changes", "sequences"),
    [
        ({"n_layers": 4, "d_model": 128, "n_heads": 4, "n_kv_heads": 4, "d_ff": 512, "vocab_size": 2048}, 8),
        ({"n_layers": 1, "d_model": 768, "n_heads": 4, "n_kv_heads": 4, "d_ff": 3072, "vocab_size": 16384}, 1),
    ],
    ids=["activations", "weights"],
)
def test_a_step_takes_the_memory_predicted(changes: dict[str, Any], sequences: int) -> None:
    spec = spec_of(replace(GPT2, **changes, context=128))
    spec = replace(spec, recipe=replace(spec.recipe, batch_sequences=sequences))
    asked = json.dumps(to_dict(spec))
    # Freed memory goes back at once, so that what is measured is what is held.
    environment = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, asked], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert step_bytes(spec, sequences, recomputed=False) == pytest.approx(int(done.stdout), rel=0.15)


@pytest.mark.parametrize("name", ["decoder", "decoder, as in Pythia", "encoder", "encoder-decoder"])
def test_recomputing_costs_what_is_counted_and_changes_no_gradient(name: str) -> None:
    shape = SHAPES[name]
    inputs = inputs_of(shape)
    gradients, counted = [], []
    for recomputed in (False, True):
        model = build(shape, 0)
        if recomputed:
            recompute_activations(model)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(*inputs).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        counted.append(counter.get_total_flops())
    assert counted[0] == SEQUENCES * train_flops_per_sequence(shape)
    assert counted[1] - counted[0] == SEQUENCES * recompute_flops_per_sequence(shape)
    for kept, again in zip(*gradients, strict=True):
        assert kept is not None
        assert again is not None
        assert torch.equal(kept, again)
    spec = spec_of(shape)
    assert activations(spec).kept(recomputed=True) < activations(spec).kept(recomputed=False)


def test_a_recorded_step_keeps_its_memory_beside_the_steps_taken_directly() -> None:
    spec = spec_of(SHAPES["decoder"])
    direct, recorded = (step_bytes(spec, SEQUENCES, False, recorded) for recorded in (False, True))
    lasting = step_bytes(spec, SEQUENCES, False) - (recorded - direct)
    assert lasting == 4 * 4 * parameter_counts(spec.model)["total"]  # weights, gradients and two moments, once
    assert largest_micro_batch(spec, recorded, recomputed=False, recorded=True) == SEQUENCES
    assert largest_micro_batch(spec, recorded - 1, recomputed=False, recorded=True) < SEQUENCES
    # A batch that is not taken whole is not recorded, so that half of it may take what the whole would take directly.
    assert largest_micro_batch(spec, direct, recomputed=False, recorded=True) == SEQUENCES // 2


def test_the_largest_micro_batch_is_found_from_the_estimate() -> None:
    spec = spec_of(SHAPES["decoder"])
    spec = replace(spec, recipe=replace(spec.recipe, batch_sequences=12))
    assert largest_micro_batch(spec, 1e12, recomputed=False) == 12
    for sequences in (1, 3, 4, 6):
        needed = step_bytes(spec, sequences, recomputed=False)
        assert largest_micro_batch(spec, needed, recomputed=False) == sequences
    compiled = replace(spec, recipe=replace(spec.recipe, batch_sequences=10, compile=True))
    shares = {4: 2, 3: 2, 5: 5, 9: 5, 10: 10}  # no smaller rest is compiled anew
    for fits, share in shares.items():
        assert largest_micro_batch(compiled, step_bytes(compiled, fits, recomputed=False), recomputed=False) == share
    prime = replace(spec, recipe=replace(spec.recipe, batch_sequences=11, compile=True))
    assert largest_micro_batch(prime, step_bytes(prime, 4, recomputed=False), recomputed=False) == 4
    with pytest.raises(ValueError, match=r"for a single sequence, and about 1e-06 GB are free: try runtime.recompute"):
        largest_micro_batch(spec, 1e3, recomputed=False)


def test_micro_batches_of_a_gpu_are_even_and_of_so_many_tokens_at_most() -> None:
    spec = spec_of(SHAPES["decoder"])  # 40 tokens a sequence
    spec = replace(spec, recipe=replace(spec.recipe, batch_sequences=12))

    def found(available: float = 1e12, recorded: bool = False, of: RunSpec = spec, most: float = 160) -> int:
        return largest_micro_batch(of, available, recomputed=False, recorded=recorded, most_tokens=most)

    assert found() == 4
    assert found(most=159) == 3
    assert found(most=1) == 1
    assert found(most=1e9) == 12
    assert found(recorded=True) == 12  # only a whole batch is recorded
    assert found(available=step_bytes(spec, 3, recomputed=False)) == 3
    ten = replace(spec, recipe=replace(spec.recipe, batch_sequences=10))
    assert found(of=ten) == 2  # 4, 4 and 2 would be two shapes
    eleven = replace(spec, recipe=replace(spec.recipe, batch_sequences=11))
    assert found(of=eleven) == 4  # 1 divides 11, and would be too small


def test_a_fused_loss_keeps_its_logits_once_and_the_weights_gradient_beside() -> None:
    spec = spec_of(replace(SHAPES["decoder"], vocab_size=50_000), "bf16")
    rows = SEQUENCES * spec.model.context
    plain, fused = (step_bytes(spec, SEQUENCES, recomputed=False, fused=fused) for fused in (False, True))
    assert plain - fused == 50_000 * (12 * rows - 2 * rows - 4 * spec.model.d_model)


SHARDED = """
import json, os, sys
from dataclasses import replace
from functools import partial
import torch
from scaling.model import build
from scaling.objectives.batch import Batch
from scaling.spec.run_spec import from_dict
from scaling.train.parallel.ranks import Ranks, meeting_place
from scaling.train.parallel.sharded_step import ShardedStepper
torch.set_num_threads(1)
spec, rank, port = from_dict(json.loads(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
sequences = spec.recipe.batch_sequences
store = meeting_place("127.0.0.1", port, 300.0, opened=False)
ranks = Ranks(rank, 2, store, torch.device("cpu"), 300.0)

def memory(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return 1024 * int(line.split()[1])

def steps(shape, count):
    new = partial(build, shape, 0)
    stepper = ShardedStepper(new(), spec.recipe, sequences, ranks, 2, new)
    open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts again, without the whole model
    for _ in range(count):
        tokens = torch.randint(shape.vocab_size, (2 * sequences, shape.context))
        stepper.take(Batch((tokens,), tokens, None, tokens.numel()), 1.0)

steps(replace(spec.model, n_layers=1, d_model=16, d_ff=16, n_heads=2, n_kv_heads=2, vocab_size=16, context=8), 1)
before = memory("VmRSS")
steps(spec.model, 2)
print(memory("VmHWM") - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for a process's peak memory")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("changes", "sequences"),
    [
        ({"n_layers": 8, "d_model": 256, "d_ff": 1024, "vocab_size": 1024}, 1),
        ({"n_layers": 1, "d_model": 512, "d_ff": 2048, "vocab_size": 16384}, 1),
        ({"n_layers": 4, "d_model": 128, "d_ff": 512, "vocab_size": 2048}, 8),
    ],
    ids=["blocks", "root", "activations"],
)
def test_a_step_of_shards_takes_the_memory_predicted(changes: dict[str, Any], sequences: int, precision: str) -> None:
    spec = spec_of(replace(GPT2, **changes, n_heads=4, n_kv_heads=4, context=128), precision)
    spec = replace(spec, recipe=replace(spec.recipe, batch_sequences=sequences))
    store = meeting_place("127.0.0.1", 0, 300.0, opened=True)
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", SHARDED, json.dumps(to_dict(spec))]
    ranks = [
        subprocess.Popen([*command, str(rank), str(store.port)], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(2)
    ]
    measured = [int(rank.communicate()[0]) for rank in ranks]
    assert step_bytes(spec, sequences, recomputed=False, shards=2) == pytest.approx(measured[0], rel=0.15)
    assert measured[1] == pytest.approx(measured[0], rel=0.05)


def test_a_device_holds_its_share_of_the_weights_and_gathers_blocks() -> None:
    spec = spec_of(replace(SHAPES["decoder"], n_layers=24, d_model=512, n_heads=8, n_kv_heads=8, d_ff=2048))
    whole, *shared = (step_bytes(spec, 1, recomputed=False, shards=shards) for shards in (1, 2, 8, 64))
    assert whole > shared[0] > shared[1] > shared[2]
    held = 4 * 4 * parameter_counts(spec.model)["total"]  # weights, gradients and two moments in float32
    assert shared[1] - shared[2] == pytest.approx(held * (1 / 8 - 1 / 64), rel=0.26)
    assert shared[2] - held // 64 < whole - held + 5 * held / 4 / 24  # a few blocks are gathered at once


def test_shards_are_chosen_where_a_whole_model_does_not_fit() -> None:
    spec = spec_of(SHAPES["decoder"])
    whole = step_bytes(spec, 1, recomputed=False)
    assert chosen(spec, "auto", 4, whole, recomputed=False) == "ddp"
    assert chosen(spec, "auto", 4, whole - 1, recomputed=False) == "fsdp"
    assert chosen(spec, "auto", 1, whole - 1, recomputed=False) == "ddp"
    assert chosen(spec, "hsdp", 4, whole, recomputed=False) == "hsdp"
    with pytest.raises(ValueError, match="a training step needs about"):
        largest_micro_batch(spec, whole - 1, recomputed=False)
    shards = step_bytes(spec, 1, recomputed=False, shards=4)
    assert largest_micro_batch(spec, shards, recomputed=False, shards=4) == 1
