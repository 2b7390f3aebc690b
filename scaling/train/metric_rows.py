"""Metric rows: the steps at which a run logs, and the numbers in each row of metrics.jsonl."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from scaling.data.manifest import Manifest
from scaling.shapes.flops import BACKWARD_PER_FORWARD, train_flops_per_sequence, train_flops_per_step
from scaling.spec.run_spec import RunSpec
from scaling.spec.runtime import Runtime
from scaling.train.gradient_noise import GradientNoiseSum
from scaling.train.step import StepResult
from scaling.train.validation import Validation, bits_per_byte

Row = dict[str, Any]  # metric name -> number, null where it is not finite
TRAIN_AUXILIARY, VAL_AUXILIARY = "train_{}_loss", "val_{}_loss"  # keys of an auxiliary loss in a row

# A loss above twice a uniform guess's shows divergence, not merely a bad model.
EXPLODED_AT_UNIFORM_LOSSES = 2.0

# The state of a run before its first step.
BLANK: dict[str, Any] = {
    "loss_sum": 0.0,  # over the steps since the last row
    "auxiliary_sums": {},  # auxiliary losses by name, over the same steps
    "loss_steps": 0,
    "noise": [0.0, 0.0, 0],  # gradient-noise sums since the last row, and their steps
    "eval_flops": 0,
    "row": {},  # the last row
}


class MetricRows:
    """Metric rows of a run of `steps` steps, made from the losses between two rows."""

    def __init__(
        self, spec: RunSpec, steps: int, manifest: Manifest, runtime: Runtime, device: torch.device, train_s: float
    ) -> None:
        """Start the rows of a run that has trained for `train_s` seconds already."""
        self.val_steps = {max(1, round(fraction * steps)) for fraction in runtime.eval_fractions} | {steps}
        self.steps = _spread(steps, runtime.log_points) | self.val_steps
        self.diverged = ""  # why the run ends as diverged, once it does
        self._spec, self._manifest, self._device = spec, manifest, device
        self._flops_per_sequence = train_flops_per_sequence(spec.model)
        self._step_flops = train_flops_per_step(spec.model, spec.recipe.batch_sequences, spec.recipe.optimizer.kind)
        self._loss_sum = torch.zeros((), device=device)
        self._noise = GradientNoiseSum(device)
        self._tokens, self._train_s = 0, train_s  # tokens since the last row, seconds up to it
        self.restore(BLANK)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the `state()` that a checkpoint kept."""
        state = BLANK | dict(state)
        self._loss_sum.fill_(state["loss_sum"])
        self._auxiliary_sums: dict[str, Tensor] = {
            name: torch.full((), value, device=self._device) for name, value in state["auxiliary_sums"].items()
        }
        self._noise.restore(*state["noise"])
        self._loss_steps = state["loss_steps"]
        self.eval_flops: int = state["eval_flops"]
        self.last: Row = state["row"]  # the last row as written, null for numbers that are not finite

    def state(self) -> dict[str, Any]:
        """State for a checkpoint; reading the losses waits for the device."""
        return {
            "loss_sum": float(self._loss_sum),
            "auxiliary_sums": {name: float(total) for name, total in self._auxiliary_sums.items()},
            "loss_steps": self._loss_steps,
            "noise": self._noise.state(),
            "eval_flops": self.eval_flops,
            "row": self.last,
        }

    def due(self, step: int) -> bool:
        """Whether a row is due after a step."""
        return step in self.steps

    def add(self, result: StepResult) -> None:
        """Add the result of a step."""
        self._loss_sum += result.loss
        for name, loss in result.auxiliary.items():
            self._auxiliary_sums[name] = loss + self._auxiliary_sums.get(name, 0.0)
        if result.noise is not None:
            self._noise.add(result.noise)
        self._loss_steps += 1
        self._tokens += self._spec.batch_tokens

    def make(self, step: int, lr: float, grad_norm: float, train_s: float, validate: Callable[[], Validation]) -> Row:
        """Make the row that is due after a step; set `diverged` where the run ends with it."""
        spec, train_loss = self._spec, float(self._loss_sum) / self._loss_steps
        speed = self._tokens / (train_s - self._train_s)
        row: Row = {
            "step": step,
            "tokens": step * spec.batch_tokens,
            "flops": step * self._step_flops,
            "train_loss": train_loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens_per_s": speed,
            "flops_per_s": speed * self._step_flops / spec.batch_tokens,
            **self._noise.take(),
        }
        for name, total in self._auxiliary_sums.items():
            row[TRAIN_AUXILIARY.format(name)] = float(total) / self._loss_steps
        self.diverged = _divergence(train_loss, spec.model.vocab_size, step)
        if step in self.val_steps and not self.diverged:
            row |= self._validated(validate())
            if not math.isfinite(row["val_loss"]):
                self.diverged = f"validation loss {row['val_loss']} at step {step}"
        self.last = {key: value if value is None or math.isfinite(value) else None for key, value in row.items()}
        self._loss_sum.zero_()
        self._auxiliary_sums = {}
        self._loss_steps, self._tokens, self._train_s = 0, 0, train_s
        return row

    def _validated(self, validation: Validation) -> Row:
        self.eval_flops += validation.sequences * self._flops_per_sequence // (1 + BACKWARD_PER_FORWARD)
        row: Row = {
            "val_loss": validation.loss_nats,
            "val_loss_se": validation.se_nats,
            "val_bpb": None,  # losses of some of the tokens do not determine the bits of the text's bytes
            "val_tokens": validation.predicted_tokens,
        }
        if self._spec.objective.predicts_every_token:
            row["val_bpb"] = bits_per_byte(validation.loss_nats, self._manifest.val_tokens, self._manifest.val_bytes)
        return row | {VAL_AUXILIARY.format(name): loss for name, loss in validation.auxiliary_nats.items()}


def validated_auxiliary(row: Mapping[str, Any]) -> dict[str, float]:
    """Auxiliary validation losses of a row, by name."""
    start, end = VAL_AUXILIARY.split("{}")
    names = [key for key in row if key.startswith(start) and key.endswith(end) and len(key) > len(start + end)]
    return {key.removeprefix(start).removesuffix(end): row[key] for key in names}


def _spread(steps: int, points: int) -> frozenset[int]:
    """About `points` steps, evenly spread, the last step among them."""
    return frozenset(math.ceil(steps * i / points) for i in range(1, points + 1))


def _divergence(train_loss: float, vocab_size: int, step: int) -> str:
    """The reason why a run counts as diverged, or an empty string."""
    if not math.isfinite(train_loss):
        return f"training loss {train_loss} at step {step}"
    limit = EXPLODED_AT_UNIFORM_LOSSES * math.log(vocab_size)
    if train_loss > limit:
        return (
            f"training loss {train_loss:.3g} nats at step {step}, beyond {limit:.3g} "
            f"({EXPLODED_AT_UNIFORM_LOSSES:g} times a uniform guess's)"
        )
    return ""
