"""Event files of TensorBoard, read back with its own reader."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scaling.trackers import start_trackers
from scaling.trackers.tracker import Attachments, TrackedRun, TrackedTable


def test_event_files_hold_metrics_by_tokens_and_the_analysis(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'scaling-experiments[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = TrackedRun("0123456789ab", "s", "pretrain", "1M params, seed 0", {"seed": 0, "model": {"kind": "decoder"}})
    tracker = start_trackers(["tensorboard"], run, {"dir": str(tmp_path)})
    figure = tmp_path / "loss.png"
    plt.imsave(figure, np.zeros((4, 6)))
    tracker.log({"tokens": 64, "train_loss": 2.5, "val_loss": None})
    tracker.log({"val_loss": 2.25})  # a row of scores alone stands at the last tokens
    tracker.attach(Attachments({"loss": figure}, tables=[TrackedTable("laws", ["name", "value"], [["E", 1.7]])]))
    tracker.finish("done", {"val_loss_nats": 2.25, "why": ""})
    folder = tmp_path / "tensorboard" / "s" / run.run_id
    assert tracker.where == f"tensorboard --logdir {tmp_path / 'tensorboard'} shows s/{run.run_id}"
    read = EventAccumulator(str(folder))
    read.Reload()
    scalars = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert scalars["train/loss"] == [(64, 2.5)]
    assert scalars["val/loss"] == [(64, 2.25)]
    assert scalars["result/val_loss_nats"] == [(0, 2.25)]
    (image,) = read.Images("figures/loss")
    assert (image.width, image.height) == (6, 4)
    assert b"| E | 1.7 |" in read.Tensors("tables/laws/text_summary")[0].tensor_proto.string_val[0]
