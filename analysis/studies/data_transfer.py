"""Effective data transferred by pretraining (Hernandez et al. 2021, arXiv 2102.01293), where runs determine it.

A model fine-tuned on D_F examples reaches a loss for which the same shape from random weights needs D_E: pretraining
was worth D_T = D_E - D_F examples (their equation 1.1), which follow D_T = k · D_F^α · N^β (their equation 1.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scaling.analysis.schema.finetuning import TransferStatus

Array = NDArray[np.float64]

LEAST_SIZES = 3  # of the scratch curve: two make a line whatever happened
LEAST_POINTS = 5  # of the law, which has three numbers
WITHIN: Final = "within"
AT_LEAST: Final = "at least"
BELOW: Final = "below"
ABSTAINS: Final = "abstains"


@dataclass(frozen=True)
class Effective:
    """The examples that pretraining was worth, or the reason why the runs do not determine them."""

    status: TransferStatus  # WITHIN the scratch curve; AT_LEAST its largest size; BELOW its smallest; ABSTAINS
    data: float | None  # D_E, or the end of the curve that it lies beyond
    transferred: float | None  # D_T, or its bound
    why: str  # empty within


@dataclass(frozen=True)
class TransferLaw:
    """D_T = k · D_F^alpha · N^beta by least squares in logs, with standard errors of the exponents."""

    k: float
    alpha: float
    beta: float
    alpha_se: float
    beta_se: float
    rms: float  # of the residuals of log D_T
    points: int

    def __call__(self, examples: Array, params: float) -> Array:
        """D_T at fine-tuning set sizes (n,) and so many parameters."""
        found: Array = self.k * examples**self.alpha * params**self.beta
        return found


def effective_data(sizes: Sequence[float], losses: Sequence[float], loss: float, examples: float) -> Effective:
    """The place of a fine-tuned loss on the scratch curve (sizes rising), straight between its points in log-log."""
    if len(sizes) < LEAST_SIZES:
        why = f"a curve needs {LEAST_SIZES} sizes from scratch or more, here are {len(sizes)}"
        return Effective(ABSTAINS, None, None, why)
    for k in range(1, len(sizes)):
        if losses[k] >= losses[k - 1]:
            why = (
                f"the scratch loss does not fall from {sizes[k - 1]:,.0f} examples ({losses[k - 1]:.3f}) to "
                f"{sizes[k]:,.0f} ({losses[k]:.3f})"
            )
            return Effective(ABSTAINS, None, None, why)
    if loss < losses[-1]:
        why = f"no size from scratch, up to {sizes[-1]:,.0f} examples, reaches this loss"
        return Effective(AT_LEAST, sizes[-1], sizes[-1] - examples, why)
    if loss > losses[0]:
        why = f"every size from scratch, from {sizes[0]:,.0f} examples, is better"
        return Effective(BELOW, sizes[0], sizes[0] - examples, why)
    place = np.interp(-np.log(loss), -np.log(np.asarray(losses)), np.log(np.asarray(sizes)))
    return Effective(WITHIN, float(np.exp(place)), float(np.exp(place)) - examples, "")


def fit_transfer(examples: Array, params: Array, transferred: Array, left_out: int) -> TransferLaw | str:
    """The law through points (n,) of one family and pretraining budget, or the reason why there is none, in words.

    `left_out` counts the points known only as bounds, or negative: where they are many, the remaining points mislead.
    """
    if len(transferred) < LEAST_POINTS:
        return f"{len(transferred)} measured points; {LEAST_POINTS} or more are needed"
    if left_out > len(transferred):
        return f"{left_out} of {left_out + len(transferred)} points are only bounds, negative or not measurable"
    if len(set(examples)) < 2 or len(set(params)) < 2:
        return "the measured points have one fine-tuning size or one model size; two or more of each are needed"
    x = np.column_stack([np.ones(len(params)), np.log(examples), np.log(params)])
    y = np.log(transferred)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return "in the measured points model size and fine-tuning size vary only together"
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    residuals = y - x @ found
    variance = float(residuals @ residuals) / (len(y) - x.shape[1])
    errors = np.sqrt(np.maximum(np.diag(np.linalg.inv(x.T @ x)) * variance, 0.0))
    return TransferLaw(
        k=float(np.exp(found[0])),
        alpha=float(found[1]),
        beta=float(found[2]),
        alpha_se=float(errors[1]),
        beta_se=float(errors[2]),
        rms=float(np.sqrt(np.mean(residuals**2))),
        points=len(y),
    )
