"""The command that times a GPU runs whole on the CPU, and keeps what it has measured when it is cut."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import gpu_speed, gpu_stages
from tests.benchmarks.gpu_stages import STAGES, Bench, Stage

PEER = """
from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    n_layer: int; n_head: int; n_embd: int; block_size: int; vocab_size: int; bias: bool; dropout: float

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = torch.nn.Embedding(config.vocab_size, config.n_embd)

    def forward(self, x, y):
        logits = self.embedding(x) @ self.embedding.weight.T
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), learning_rate, betas)
"""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / gpu_speed.FILE).read_text().splitlines()]


@pytest.mark.long
def test_every_stage_runs_on_the_cpu_at_small_sizes(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(PEER)
    command = [sys.executable, gpu_speed.__file__, "--device", "cpu", "--minutes", "5", "--out", str(tmp_path)]
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run(
        [*command, "--peer", str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path)
    assert {row["stage"]: row["status"] for row in rows if "status" in row} == dict.fromkeys(STAGES, "done")
    measured = [row for row in rows if "status" not in row]
    assert {row["stage"] for row in measured} == set(STAGES)
    assert all(row["right"] for row in measured if row["stage"] == "correctness")
    assert all(row["exit"] == 0 for row in measured if row["stage"] == "sweep")
    (peer,) = (row for row in measured if row["stage"] == "peer")
    assert peer["ratio"] > 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on; the stages here wait for nobody
def test_a_stage_that_is_cut_or_fails_keeps_its_rows_and_leaves_the_others_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(bench: Bench) -> Iterator[dict[str, Any]]:
        yield {"found": 1}
        subprocess.run(["sleep", "60"], check=False)

    def failing(bench: Bench) -> Iterator[dict[str, Any]]:
        yield {"found": 2}
        raise RuntimeError("an illegal memory access")

    def dying(bench: Bench) -> Iterator[dict[str, Any]]:
        yield {"found": 3}
        os._exit(9)

    monkeypatch.setattr(gpu_speed, "GRACE_S", 0.1)
    made = {"endless": endless, "failing": failing, "dying": dying}
    monkeypatch.setattr(gpu_stages, "STAGES", {name: Stage(1, run) for name, run in made.items()})
    options = argparse.Namespace(device="cpu", out=tmp_path, peer=None)
    started = time.monotonic()
    for name, seconds in (("endless", 0.5), ("failing", 20.0), ("dying", 20.0)):
        gpu_speed.boxed(name, options, seconds)
    assert time.monotonic() - started < 20
    found = [(row["stage"], row.get("found", row.get("status"))) for row in rows_of(tmp_path)]
    assert found == [
        ("endless", 1),
        ("endless", "cut"),
        ("failing", 2),
        ("failing", "failed"),
        ("dying", 3),
        ("dying", "died"),
    ]
    (why,) = (row["why"] for row in rows_of(tmp_path) if "why" in row)
    assert why == "RuntimeError: an illegal memory access"
