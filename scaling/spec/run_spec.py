"""RunSpec: every setting that decides a run's outcome, and nothing else; its hash is the run's identity.

No field has a default, so a spec states every value that its run used. The machine, the tracker and the budget are no
part of a spec, so the same experiment is never trained twice.
"""

import json
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from scaling.registry import choose
from scaling.shapes.families import SHAPES
from scaling.shapes.shape import TransformerShape, before
from scaling.spec.objective import OBJECTIVE_SPECS, Lengths, Objective, SpecialIds

PRECISIONS = ("fp32", "bf16")


def check_precision(setting: str, value: str) -> str:
    """The precision if it is known; ValueError names the setting and the choices."""
    if value not in PRECISIONS:
        raise ValueError(f"{setting}={value!r}: choose from {', '.join(PRECISIONS)}")
    return value


@dataclass(frozen=True)
class DataSpec:
    """The tokens of a run: content of the source, tokenizer, split, noise and duplicates; never a path."""

    kind: str  # source kind: "stdlib", "text", "hf", "tokens", "synthetic"
    fingerprint: str  # sha256 over the source's content
    tokenizer: str  # "bytes", "chars", "bpe", "hf" (pretrained), "none" (already tokens)
    tokenizer_sha256: str | None  # digest of a pretrained tokenizer.json; None for a tokenizer that the data decide
    end_id: int | None  # token that ends a document; None when the source is tokens
    vocab_size: int  # token ids are below this
    val_fraction: float  # share of the documents held out, chosen by hash of the document
    noise: float  # share of the training tokens replaced by ids drawn uniformly
    duplicate: float  # share of the training documents that are copies of others
    quality_seed: int  # seed of noise and duplicates; 0 without either


@dataclass(frozen=True)
class OptimizerSpec:
    """AdamW (Loshchilov and Hutter 2019), or Muon on the towers' matrices and AdamW on the rest; matrices decay."""

    kind: str  # "adamw", "muon"
    learning_rate: float  # peak of the schedule
    beta1: float
    beta2: float  # a step's decay, resolved from a half-life in tokens where the recipe gives one
    eps: float
    weight_decay: float
    clip_norm: float | None  # largest norm of the whole gradient; None clips nothing


@dataclass(frozen=True)
class ScheduleSpec:
    """The learning rate over the run, in steps; `schedule.py` holds the formulas."""

    kind: str  # "wsd" or "cosine"
    warmup_steps: int
    cooldown_steps: int  # cooldown of "wsd"; 0 for "cosine", which decays from the end of warm-up
    cooldown_shape: str  # "linear", "1-sqrt"; "cosine" for cosine
    final_fraction: float  # last learning rate as a share of the peak


@dataclass(frozen=True)
class Multipliers:
    """Factors that a parametrization puts on a standard model's quantities; 1 changes nothing."""

    residual: float  # factor of each sublayer's output, before the residual stream adds it
    residual_init: float  # factor of the initial weights that write to the residual stream
    head_init: float  # factor of an untied head's initial weights
    scores: float  # factor of the attention scores
    logits: float  # factor of the head's input


STANDARD = Multipliers(1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ParametrizationSpec:
    """Multipliers and step sizes that follow the model's size; `parametrization.py` holds the rules."""

    kind: str  # "mup", "completep"
    multipliers: Multipliers
    hidden_learning_rate: float  # peak for matrices both of whose sides grow with width; the optimizer's for the rest
    hidden_weight_decay: float


@dataclass(frozen=True)
class RecipeSpec:
    """The recipe of one run: resolved numbers, not rules."""

    steps: int
    batch_sequences: int
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    precision: str
    compile: bool
    # Rules of width and depth; None is the standard parametrization.
    parametrization: ParametrizationSpec | None = field(metadata={"before": None})

    @property
    def multipliers(self) -> Multipliers:
        """The parametrization's multipliers; 1 throughout for the standard one."""
        return STANDARD if self.parametrization is None else self.parametrization.multipliers


@dataclass(frozen=True)
class RunSpec:
    """One training run."""

    model: TransformerShape
    objective: Objective
    # Ids of the objective's tokens in a pretrained vocabulary; None puts these tokens above the data's ids.
    special: SpecialIds | None = field(metadata={"before": None})
    data: DataSpec
    recipe: RecipeSpec
    val_tokens: int  # held-out tokens that are scored, at most
    seed: int  # seed of the initial weights and of the order of the data

    @property
    def lengths(self) -> Lengths:
        """The parts of one sequence."""
        return self.objective.lengths(self.model.context)

    @property
    def batch_tokens(self) -> int:
        """Training tokens of a batch: all that the towers read of its sequences."""
        return self.recipe.batch_sequences * self.model.sequence_tokens

    @property
    def train_tokens(self) -> int:
        """Training tokens of the run, repeats included."""
        return self.recipe.steps * self.batch_tokens

    @property
    def text_tokens(self) -> int:
        """Tokens of the data that the run uses up: a decoder's training tokens, fewer or more in other families."""
        return self.recipe.steps * self.recipe.batch_sequences * self.lengths.text

    @cached_property
    def run_id(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON of this spec."""
        text = json.dumps(to_dict(self), sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


# The recipe of an imported checkpoint, which is not known here.
NO_RECIPE = RecipeSpec(
    steps=0,
    batch_sequences=0,
    optimizer=OptimizerSpec("imported", 0.0, 0.0, 0.0, 0.0, 0.0, None),
    schedule=ScheduleSpec("imported", 0, 0, "imported", 0.0),
    precision="fp32",
    compile=False,
    parametrization=None,
)


@dataclass(frozen=True)
class Imported:
    """A checkpoint that was trained elsewhere, whose weights stand in for its recipe."""

    weights_sha256: str  # digest of the weights in this project's layout
    train_tokens: int  # training tokens as the importing user states them


@dataclass(frozen=True)
class ImportedSpec(RunSpec):
    """A run that was trained elsewhere: its recipe is NO_RECIPE, its data are those of its evaluation here."""

    imported: Imported

    @property
    def train_tokens(self) -> int:
        return self.imported.train_tokens

    @property
    def text_tokens(self) -> int:
        return self.train_tokens * self.lengths.text // self.model.sequence_tokens


@dataclass(frozen=True)
class Continued:
    """The weights that a run goes on from, in place of random ones."""

    weights_sha256: str


@dataclass(frozen=True)
class ContinuedSpec(RunSpec):
    """A run that goes on from another's weights, with data, recipe and schedule of its own.

    Model and objective are the parent's. The seed decides the order of the data alone; tokens are the run's own.
    """

    continued: Continued


@dataclass(frozen=True)
class Parent:
    """The finished run whose weights are fine-tuned."""

    run_id: str
    weights_sha256: str


@dataclass(frozen=True)
class Finetuned:
    """The start of a fine-tuned run and the task that it learns."""

    parent: Parent | None  # None starts from random weights: the control
    task: str
    examples_sha256: str  # digest of all examples: those that train, that choose the step and that are scored
    examples: int  # training examples
    classes: int  # classes of a classification; 0 where the answer is text
    answer_tokens: int  # tokens of an answer in text, at most, without its end; 0 for a classification
    evaluations: int  # evaluations over the run, at each of which the kept step may be chosen
    generated: int  # scored examples that are answered in full; 0 for a classification


@dataclass(frozen=True)
class FinetunedSpec(RunSpec):
    """A run on a task's examples that starts from another run's weights, or from random ones.

    The shape is the parent's at the task's lengths. The data are the parent's, whose tokenizer reads the examples.
    """

    finetuned: Finetuned

    @property
    def batch_tokens(self) -> int:
        """Training tokens of a batch; a classification reads its text with the first tower alone."""
        classifies = self.finetuned.classes > 0
        read = self.model.towers()[0].tokens if classifies else self.model.sequence_tokens
        return self.recipe.batch_sequences * read


def to_dict(spec: RunSpec) -> dict[str, Any]:
    """The spec as plain JSON values.

    A field with its value from before it existed is left out, so that ids from then stand.
    """
    return _values(spec)


def _values(part: Any) -> dict[str, Any]:
    """Fields of a dataclass and of the dataclasses nested in it, as plain values."""
    earlier, found = before(type(part)), {}
    for field_ in fields(part):
        value = getattr(part, field_.name)
        if field_.name not in earlier or value != earlier[field_.name]:
            found[field_.name] = _values(value) if is_dataclass(value) else value
    return found


def from_dict(values: dict[str, Any]) -> RunSpec:
    """The spec rebuilt from `to_dict`'s values; unknown keys and kinds raise."""
    values = before(RunSpec) | values
    recipe = before(RecipeSpec) | values["recipe"]
    recipe["optimizer"] = OptimizerSpec(**recipe["optimizer"])
    recipe["schedule"] = ScheduleSpec(**recipe["schedule"])
    if (scaled := recipe["parametrization"]) is not None:
        multipliers = Multipliers(**scaled["multipliers"])
        recipe["parametrization"] = ParametrizationSpec(**scaled | {"multipliers": multipliers})
    shape = choose("model kind", SHAPES, values["model"]["kind"])
    objective = choose("objective kind", OBJECTIVE_SPECS, values["objective"]["kind"])
    special = values["special"]
    given: dict[str, Any] = {
        "model": shape(**before(shape) | values["model"]),
        "objective": objective(**values["objective"]),
        "special": None if special is None else SpecialIds(tuple(special["added"]), special["end"]),
        "data": DataSpec(**values["data"]),
        "recipe": RecipeSpec(**recipe),
        "val_tokens": values["val_tokens"],
        "seed": values["seed"],
    }
    if "imported" in values:
        return ImportedSpec(**given, imported=Imported(**values["imported"]))
    if "continued" in values:
        return ContinuedSpec(**given, continued=Continued(**values["continued"]))
    if "finetuned" in values:
        parent = values["finetuned"]["parent"]
        start = {"parent": None if parent is None else Parent(**parent)}
        return FinetunedSpec(**given, finetuned=Finetuned(**values["finetuned"] | start))
    return RunSpec(**given)
