"""nanoGPT's model and training loop from a checkout, as its train.py runs them."""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling.profiling.bench import Case


def training_step(checkout: Path, case: Case, device: str, folder: Path) -> Callable[[], Any]:
    """A call that takes one step of nanoGPT's loop on random tokens and returns its loss, which is not waited for.

    On a GPU the model is compiled and in bfloat16, TF32 is allowed and AdamW is fused, as train.py has by default.
    """
    model, optimizer = _model(checkout, case, device)
    tokens = folder / "train.bin"
    np.random.default_rng(0).integers(case.vocab_size, size=1_000_000).astype(np.uint16).tofile(tokens)
    autocast = torch.autocast("cuda", dtype=torch.bfloat16) if device == "cuda" else nullcontext()

    def batch() -> tuple[Any, Any]:
        data = np.memmap(tokens, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - case.context, (case.batch_sequences,))
        x = torch.stack([torch.from_numpy(data[i : i + case.context].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + case.context].astype(np.int64)) for i in starts])
        if device == "cpu":
            return x, y
        return x.pin_memory().to(device, non_blocking=True), y.pin_memory().to(device, non_blocking=True)

    following = batch()

    def step() -> Any:
        nonlocal following
        with autocast:
            _, loss = model(*following)
        following = batch()  # while the device computes
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def _model(checkout: Path, case: Case, device: str) -> tuple[Any, Any]:
    described = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert described is not None
    assert described.loader is not None
    module: Any = importlib.util.module_from_spec(described)
    sys.modules["nanogpt_model"] = module
    described.loader.exec_module(module)
    config = module.GPTConfig(
        n_layer=case.n_layers,
        n_head=case.n_heads,
        n_embd=case.d_model,
        block_size=case.context,
        vocab_size=case.vocab_size,
        bias=False,
        dropout=0.0,
    )
    model = module.GPT(config).to(device)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), device)
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        model = torch.compile(model)
    return model, optimizer
