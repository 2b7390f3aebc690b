"""The loss as a GPU takes it, one kernel for losses and gradients: with a stand-in, and in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from scaling.model.tower import LazyLogits
from scaling.objectives import chunked_loss, fused_loss, losses
from scaling.objectives.chunked_loss import chunked_cross_entropy, keeps_sums
from scaling.objectives.fused_loss import failure, is_fused
from scaling.spec import memory
from scaling.spec.memory import chunk_rows

CPU = torch.device("cpu")
VOCABULARY = 37


def stand_in(
    logits_nW: Tensor, vocabulary: int, targets_n: Tensor, counts_n: Tensor | None, *, gradient: bool
) -> Tensor:
    """The kernel's results by torch's operations."""
    assert logits_nW.is_contiguous()
    log_nV = logits_nW[:, :vocabulary].float().log_softmax(dim=1)
    count_n = torch.ones(len(logits_nW)) if counts_n is None else counts_n
    rows = torch.arange(len(logits_nW))
    if gradient:
        slope_nV = log_nV.exp()
        slope_nV[rows, targets_n] -= 1
        logits_nW[:, vocabulary:] = 0
        logits_nW[:, :vocabulary] = slope_nV * count_n.unsqueeze(1)
    return -log_nV[rows, targets_n] * count_n


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """7 rows of logits at a time."""
    monkeypatch.setattr(memory, "CHUNK_LOGITS", 7 * VOCABULARY)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that takes the loss as a GPU does, 7 rows at a time, in a padded vocabulary; with `few_rows`."""
    monkeypatch.setattr(memory, "FUSED_ROWS", 7)
    monkeypatch.setattr(chunked_loss, "ALIGNED", {"cpu": 64})
    for module in (chunked_loss, losses):
        monkeypatch.setattr(module, "is_fused", lambda _: True)
    monkeypatch.setattr(chunked_loss, "cross_entropy_", stand_in)


def given(models: int, dtype: torch.dtype, biased: bool, weighted: bool) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Inputs that need gradients, targets, and counts."""
    draw = torch.Generator().manual_seed(0)
    sizes = ((models, 23, 16), (models, VOCABULARY, 16), *([(models, VOCABULARY)] if biased else []))
    x, *others = (torch.randn(size, generator=draw) for size in sizes)
    asked = [x.to(dtype).requires_grad_(), *(tensor.requires_grad_() for tensor in others)]
    targets = torch.randint(VOCABULARY, (models, 23), generator=draw)
    return asked, targets, torch.rand(models, 23, generator=draw).round() if weighted else None


def found(asked: list[Tensor], targets: Tensor, counts: Tensor | None) -> list[Tensor]:
    """Losses and gradients."""
    x, weight, bias = (*asked, None)[:3]
    assert x is not None
    assert weight is not None
    of_models = chunked_cross_entropy(x, weight, bias, targets, counts)
    factor = torch.arange(3.0, 3 + len(of_models))
    return [of_models, *torch.autograd.grad((factor * of_models).sum(), asked)]


@pytest.mark.parametrize("weighted", [False, True], ids=["all count", "some count"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_fused_loss_has_the_losses_and_gradients_of_the_plain_one(
    dtype: torch.dtype, models: int, biased: bool, weighted: bool, few_rows: None, request: pytest.FixtureRequest
) -> None:
    inputs = given(models, dtype, biased, weighted)
    plain = found(*inputs)
    request.getfixturevalue("fused")
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 2e-2}
    for ours, theirs in zip(found(*inputs), plain, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, **near)


@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
def test_a_validation_takes_the_path_of_the_training_loss(
    biased: bool, few_rows: None, request: pytest.FixtureRequest
) -> None:
    inputs = given(1, torch.bfloat16, biased, weighted=False)
    trained, *_ = found(*inputs)
    (x, weight, *bias), targets, _ = inputs
    read = LazyLogits(x[0].view(1, 23, 16), weight[0], bias[0][0] if biased else None)
    request.getfixturevalue("fused")
    with torch.no_grad():
        validated = losses.token_losses(read, targets)
    assert validated.shape == targets.shape
    torch.testing.assert_close(validated.sum(dim=1), trained, rtol=1e-6, atol=0)


def test_a_kernel_that_fails_or_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("no compiler\nhere")

    def wrong(logits: Tensor, *rest: Any, gradient: bool) -> Tensor:
        out = stand_in(logits, *rest, gradient=gradient)
        logits[0, 0] += 0.1
        return out

    def unpadded(logits: Tensor, *rest: Any, gradient: bool) -> Tensor:
        out = stand_in(logits, *rest, gradient=gradient)
        logits[1, -1] = 1e-3
        return out

    words = {stand_in: "", broken: "fails: RuntimeError: no compiler", wrong: "gives other", unpadded: "gives other"}
    for kernel, why in words.items():
        monkeypatch.setattr(fused_loss, "cross_entropy_", kernel)
        assert failure(CPU).startswith(why)
        assert bool(failure(CPU)) is bool(why)


def test_a_cpu_takes_no_kernel_and_a_gpu_states_why_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = is_fused.__wrapped__
    assert not ask("cpu")
    monkeypatch.setattr(fused_loss, "find_spec", lambda _: None)
    assert not ask("cuda")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(fused_loss, "find_spec", lambda _: object())
    monkeypatch.setattr(fused_loss, "failure", lambda _: "fails: OSError: no gcc")
    assert not ask("cuda")
    assert "operation by operation, since its kernel fails: OSError: no gcc" in capsys.readouterr().out
    monkeypatch.setattr(fused_loss, "failure", lambda _: "")
    assert ask("cuda")


def test_products_keep_their_float32_sums_where_the_device_can(monkeypatch: pytest.MonkeyPatch) -> None:
    keeps_sums.cache_clear()
    assert not keeps_sums("cpu", torch.bfloat16, torch.float32)
    bmm, seen = torch.bmm, []

    def of_a_gpu(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
        seen.append(out_dtype)
        return bmm(a, b) if out_dtype is None else bmm(a.to(out_dtype), b.to(out_dtype))

    inputs = given(1, torch.bfloat16, biased=False, weighted=False)
    plain = found(*inputs)
    monkeypatch.setattr(torch, "bmm", of_a_gpu)
    keeps_sums.cache_clear()
    assert keeps_sums("cpu", torch.bfloat16, torch.float32)
    wider = found(*inputs)
    keeps_sums.cache_clear()
    assert torch.float32 in seen
    torch.testing.assert_close(wider[1], plain[1])
    torch.testing.assert_close(wider[2], plain[2], rtol=1e-2, atol=2e-2)
    assert not torch.equal(wider[2], plain[2])


def test_chunks_of_a_fused_loss_fill_a_gpus_matmuls() -> None:
    assert chunk_rows(50_257) == 667
    assert chunk_rows(50_257, fused=True) == 8192
    assert chunk_rows(300, fused=True) == 2**25 // 300 // 128 * 128 == 111_744


INTERPRETED = """
import torch
from scaling.objectives.fused_loss import cross_entropy_, failure
from scaling.objectives import fused_loss
from tests.objectives.test_fused_loss import stand_in

fused_loss.BLOCK = 32
draw = torch.Generator().manual_seed(0)
for vocabulary, width in ((37, 64), (64, 64), (5, 5), (100, 128)):
    for dtype in (torch.float32, torch.bfloat16):
        for counted in (False, True):
            logits = (4 * torch.randn(6, width, generator=draw)).to(dtype)
            targets = torch.randint(vocabulary, (6,), generator=draw)
            counts = torch.rand(6, generator=draw).round() if counted else None
            for gradient in (False, True):
                ours, theirs = logits.clone(), logits.clone()
                one = cross_entropy_(ours, vocabulary, targets, counts, gradient=gradient)
                other = stand_in(theirs, vocabulary, targets, counts, gradient=gradient)
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
                near = 1e-6 if dtype == torch.float32 else 1e-2
                torch.testing.assert_close(ours, theirs, rtol=near, atol=near)
assert failure(torch.device("cpu")) == "", failure(torch.device("cpu"))
"""


@pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed; torch brings it on machines with CUDA"
)
def test_the_kernel_gives_these_numbers_in_tritons_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
