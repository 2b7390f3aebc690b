"""An analysis as asked for: the laws by name, the penalty of a residual, and the draws that intervals take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from scaling.analysis.fitting.fit import Loss
from scaling.analysis.judgement.holdout import LEVEL
from scaling.analysis.laws import LAWS, law_named
from scaling.analysis.laws.held import Bounds, hold
from scaling.analysis.laws.law import Law
from scaling.analysis.laws.log_mean import LEARNING_CURVE, LEARNING_CURVE_LAWS
from scaling.analysis.schema.document import Errors, Holdout, Settings
from scaling.analysis.schema.fits import LossSettings
from scaling.analysis.schema.isoflop import ASKABLE, CurveModel
from scaling.analysis.schema.numbers import number
from scaling.registry import choose

Wanted = Mapping[str, tuple[type[Law], tuple[str, ...]]]  # name -> law and its variables in these data


@dataclass(frozen=True)
class Request:
    """An analysis as asked for; ValueError names the choices."""

    laws: Wanted
    loss: Loss
    bootstrap: int  # resamples of a fit; 0 asks for point fits and isoFLOP minima alone
    seed: int
    holdout: Holdout | None
    minimum: CurveModel | None = None  # the curve model whose isoFLOP minima to quote; None leaves it to the runs

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise ValueError(f"bootstrap must be 0 (no resamples) or more, got {self.bootstrap}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.holdout is not None and self.holdout not in get_args(Holdout):
            choices = ", ".join(get_args(Holdout))
            raise ValueError(f"unknown holdout {self.holdout!r}; choose from {choices}, or leave it out")
        if self.minimum is not None and self.minimum not in ASKABLE:
            raise ValueError(f"unknown minimum {self.minimum!r}; choose from {', '.join(ASKABLE)}, or leave it out")


def parse_laws(
    laws: Sequence[str],
    columns: tuple[str, ...] = (),
    *,
    fix: Mapping[str, float] | None = None,
    bounds: Mapping[str, Bounds] | None = None,
) -> Wanted:
    """Laws by name, each with its variables; "power:N" is a law of one variable in N.

    A text may also be a formula over `columns`, or a user's class (see `laws.law_named`). `fix` and `bounds` hold for
    every law that has the parameter. ValueError lists the choices.
    """
    if not laws:
        raise ValueError(f"no law given; choose from {', '.join(sorted(LAWS))}")
    wanted = _named(laws, columns)
    asked = {**(fix or {}), **(bounds or {})}
    known = {name for law, _ in wanted.values() for name in law.declared()}
    for name in asked:
        choose("parameter", dict.fromkeys(sorted(known)), name)
    return {
        name: (
            hold(
                law,
                {one: value for one, value in (fix or {}).items() if one in law.declared()},
                {one: ends for one, ends in (bounds or {}).items() if one in law.declared()},
            ),
            variables,
        )
        for name, (law, variables) in wanted.items()
    }


def _with_sets(laws: Sequence[str]) -> list[str]:
    """The texts with the set of learning-curve laws in place of its name."""
    texts: list[str] = []
    for text in laws:
        name, colon, variable = text.partition(":")
        texts += [f"{one}{colon}{variable}" for one in LEARNING_CURVE_LAWS] if name == LEARNING_CURVE else [text]
    return texts


def _named(laws: Sequence[str], columns: tuple[str, ...]) -> dict[str, tuple[type[Law], tuple[str, ...]]]:
    """Laws by name, each with its variables."""
    wanted: dict[str, tuple[type[Law], tuple[str, ...]]] = {}
    for text in _with_sets(laws):
        name, _, variable = text.partition(":")
        if name not in LAWS:
            found = law_named(text, columns)
            wanted[text.strip()] = (found, found.variables)
            continue
        law = LAWS[name]
        if law.predicts != "loss":
            raise ValueError(
                f"the law {name!r} predicts {law.predicts}, not the loss; fit it to its own numbers in Python, "
                f"with scaling.analysis.fitting.fit.fit({name!r}, …)"
            )
        if len(law.variables) > 1 and variable:
            raise ValueError(
                f"law {text!r} names a variable; {name} is a law of {', '.join(law.variables)}: leave it out"
            )
        if len(law.variables) == 1:
            own = "C" if law.variables == ("x",) else law.variables[0]
            wanted[f"{name}:{variable or own}"] = (law, (variable or own,))
        else:
            wanted[name] = (law, law.variables)
    return wanted


def settings_section(request: Request, target_flops: float, errors: Errors, errors_words: str) -> Settings:
    """The request with the target in FLOPs and the weighting of the runs."""
    return {
        "laws": list(request.laws),
        "loss": loss_section(request.loss),
        "bootstrap": request.bootstrap,
        "seed": request.seed,
        "level": LEVEL,
        "holdout": request.holdout,
        "target_flops": number(target_flops),
        "minimum": request.minimum,
        "errors": errors,
        "errors_words": errors_words,
    }


def loss_section(loss: Loss) -> LossSettings:
    """The penalty of a residual."""
    return {"name": loss.name, "delta": loss.delta, "on": loss.on, "reduction": "sum"}
