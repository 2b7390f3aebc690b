"""The metric rows of a run: at which steps, and what they say."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from scaling.data.manifest import Manifest
from scaling.shapes import flops as exact_flops
from scaling.spec.objective import asks_next_sentence
from scaling.spec.run_spec import RunSpec
from scaling.spec.runtime import Runtime
from scaling.train.gradient_noise import GradientNoiseSum
from scaling.train.step_result import StepResult
from scaling.train.validation import Validation, bits_per_byte

# A loss of twice a uniform guess's is not a bad model, it is a blown-up one.
EXPLODED_AT_UNIFORM_LOSSES = 2.0

# Of a curve before its first step.
BLANK: dict[str, Any] = {
    "loss_sum": 0.0,  # of the steps since the last metric row
    "next_sum": 0.0,  # of their next-sentence losses
    "loss_steps": 0,
    "noise": [0.0, 0.0, 0],  # of the gradients measured since then
    "eval_flops": 0,
    "row": {},  # the last metric row
}


class MetricRows:
    """What a run of `steps` steps makes of the losses; a trunk keeps one more for each run that branches off it."""

    def __init__(
        self, spec: RunSpec, steps: int, manifest: Manifest, runtime: Runtime, device: torch.device, train_s: float
    ) -> None:
        self.val_steps = {max(1, round(fraction * steps)) for fraction in runtime.eval_fractions} | {steps}
        self.steps = _spread(steps, runtime.log_points) | self.val_steps
        self.diverged = ""  # why the run ends as diverged, once it does
        self._spec, self._manifest = spec, manifest
        self._flops_per_sequence = exact_flops.train_flops_per_sequence(spec.model)
        recipe = spec.recipe
        self._step_flops = exact_flops.train_flops_per_step(spec.model, recipe.batch_sequences, recipe.optimizer.kind)
        self._loss_sum, self._next_sum = torch.zeros((), device=device), torch.zeros((), device=device)
        self._noise = GradientNoiseSum(device)
        self._tokens, self._train_s = 0, train_s  # since the last row, and then
        self.restore(BLANK)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` said; what an older version did not say is as before the first step."""
        state = BLANK | dict(state)
        self._loss_sum.fill_(state["loss_sum"])
        self._next_sum.fill_(state["next_sum"])
        self._noise.restore(*state["noise"])
        self._loss_steps, self._eval_flops = state["loss_steps"], state["eval_flops"]
        self.row: dict[str, Any] = state["row"]  # the last one, as it is written

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; reading the loss waits for the device."""
        return {
            "loss_sum": float(self._loss_sum),
            "next_sum": float(self._next_sum),
            "loss_steps": self._loss_steps,
            "noise": self._noise.state(),
            "eval_flops": self._eval_flops,
            "row": self.row,
        }

    def add(self, stepped: StepResult) -> None:
        """Count in what a step found."""
        self._loss_sum += stepped.loss
        if stepped.next_loss is not None:
            self._next_sum += stepped.next_loss
        if stepped.noise is not None:
            self._noise.add(stepped.noise)
        self._loss_steps += 1
        self._tokens += self._spec.batch_tokens

    def take_row(
        self, step: int, lr: float, grad_norm: float, train_s: float, validate: Callable[[], Validation]
    ) -> dict[str, Any]:
        """The metric row of this step, one of `steps`; sets `diverged` when the run ends here."""
        spec, train_loss = self._spec, float(self._loss_sum) / self._loss_steps
        speed = self._tokens / (train_s - self._train_s)
        row: dict[str, Any] = {
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
        if asks_next_sentence(spec.objective):
            row["train_next_loss"] = float(self._next_sum) / self._loss_steps
        self.diverged = _divergence(train_loss, spec.model.vocab_size, step)
        if step in self.val_steps and not self.diverged:
            validation = validate()
            self._eval_flops += (
                validation.sequences * self._flops_per_sequence // (1 + exact_flops.BACKWARD_PER_FORWARD)
            )
            row["val_loss"], row["val_loss_se"] = validation.loss_nats, validation.se_nats
            row["val_bpb"] = self._bits_per_byte(validation.loss_nats)
            row["val_tokens"] = validation.predicted_tokens
            if validation.next_loss_nats is not None:
                row["val_next_loss"] = validation.next_loss_nats
            if not math.isfinite(validation.loss_nats):
                self.diverged = f"validation loss {validation.loss_nats} at step {step}"
        self.row = {key: _or_null(value) for key, value in row.items()}
        self._loss_sum.zero_()
        self._next_sum.zero_()
        self._loss_steps, self._tokens, self._train_s = 0, 0, train_s
        return row

    def _bits_per_byte(self, loss_nats: float) -> float | None:
        if not self._spec.objective.predicts_every_token:
            return None
        return bits_per_byte(loss_nats, self._manifest.val_tokens, self._manifest.val_bytes)


def _spread(steps: int, points: int) -> frozenset[int]:
    """About `points` steps, evenly spread, the last step among them."""
    return frozenset(math.ceil(steps * i / points) for i in range(1, points + 1))


def _divergence(train_loss: float, vocab_size: int, step: int) -> str:
    """Why the run counts as diverged, or an empty string."""
    if not math.isfinite(train_loss):
        return f"training loss {train_loss} at step {step}"
    limit = EXPLODED_AT_UNIFORM_LOSSES * math.log(vocab_size)
    if train_loss > limit:
        return (
            f"training loss {train_loss:.3g} nats at step {step}, beyond {limit:.3g} "
            f"({EXPLODED_AT_UNIFORM_LOSSES:g} times a uniform guess's)"
        )
    return ""


def _or_null(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is None or math.isfinite(value) else None
