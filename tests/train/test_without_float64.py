"""A device without float64, as Apple's GPU is: the CPU stands in for it, and refuses what the other would."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scaling.machine import hardware
from scaling.objectives.objectives import training_batch
from scaling.train.gradient_noise import GradientNoiseSum
from scaling.train.step import Stepper, StepResult
from tests.examples import FAMILIES
from tests.train.parallel.shared_steps import CPU, Case
from tests.train.test_loop import spec_for


class WithoutFloat64(TorchDispatchMode):
    """Refuses operations whose result is of float64, as Metal does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, torch.Tensor) and one.dtype == torch.float64:
                raise TypeError(f"{func}: the framework doesn't support float64")
        return found


def step(family: str, precision: str, refusing: Any) -> tuple[StepResult, list[float]]:
    """A step that measures gradient noise, and the noise summed."""
    model, objective = FAMILIES[family]
    spec = spec_for(model=model, objective=objective)
    spec = replace(spec, recipe=replace(spec.recipe, precision=precision))
    case = Case(spec)
    chunk = torch.arange(4 * spec.lengths.text).view(4, -1).remainder(20).numpy()
    batch = training_batch(spec, chunk, 1, None)
    stepper = Stepper(case.model(), spec.recipe, 2, CPU)
    with refusing:
        result = stepper.take(batch, 1.0, measure_noise=True)
        sums = GradientNoiseSum(CPU)
        assert result.noise is not None
        sums.add(result.noise)
    return result, sums.state()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_needs_no_float64_on_its_device(family: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="float64"):
        step(family, precision, WithoutFloat64())
    plain, of_plain = step(family, precision, nullcontext())
    monkeypatch.setitem(hardware.NARROW_SUMS, "cpu", torch.float32)
    narrow, of_narrow = step(family, precision, WithoutFloat64())
    assert torch.equal(narrow.loss, plain.loss)
    assert torch.equal(narrow.grad_norm, plain.grad_norm)
    assert of_narrow == pytest.approx(of_plain, rel=1e-4)
