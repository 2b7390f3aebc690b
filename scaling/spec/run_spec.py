"""RunSpec: everything that decides a run's outcome, and nothing else; its hash is the run's identity.

No field has a default: what a run used is always written down. Where a run executes, how it is watched and which budget
asked for it are not in here, so the same experiment is never trained twice.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from scaling.registry import choose
from scaling.shapes.families import SHAPES
from scaling.shapes.shape import TransformerShape
from scaling.spec.objective import OBJECTIVE_SPECS, Lengths, Objective, SpecialIds

PRECISIONS = ("fp32", "bf16")


def check_precision(setting: str, value: str) -> str:
    """The precision; ValueError naming the setting for one that is not known."""
    if value not in PRECISIONS:
        raise ValueError(f"{setting}={value!r}: choose from {', '.join(PRECISIONS)}")
    return value


@dataclass(frozen=True)
class DataSpec:
    """Which tokens: the content of the source, the tokenizer, the split and what was spoilt, never a path."""

    kind: str  # source kind: "stdlib", "text", "hf", "tokens", "synthetic"
    fingerprint: str  # sha256 over the source's content
    tokenizer: str  # "bytes", "chars", "bpe", "hf" (pretrained), "none" (already tokens)
    tokenizer_sha256: str | None  # of a pretrained tokenizer.json; None for those that the data decide
    end_id: int | None  # ends a document; None when the source is tokens
    vocab_size: int  # token ids are below this
    val_fraction: float  # share of the documents held out, chosen by hash of the document
    noise: float  # share of the training tokens replaced by ids drawn uniformly
    duplicate: float  # share of the training documents that are copies of others
    quality_seed: int  # of both; 0 without either


@dataclass(frozen=True)
class OptimizerSpec:
    """AdamW (Loshchilov and Hutter 2019), or Muon on the towers' matrices and AdamW on the rest; matrices decay."""

    kind: str  # "adamw", "muon"
    learning_rate: float  # peak
    beta1: float
    beta2: float  # per step, resolved from a half-life in tokens where one was given
    eps: float
    weight_decay: float
    clip_norm: float | None  # of the whole gradient; None leaves gradients as they are


@dataclass(frozen=True)
class ScheduleSpec:
    """The learning rate over the run, in steps; `schedule.py` holds the formulas."""

    kind: str  # "wsd" or "cosine"
    warmup_steps: int
    cooldown_steps: int  # of "wsd"; 0 for cosine, which decays from the end of warm-up
    cooldown_shape: str  # "linear", "1-sqrt"; "cosine" for cosine
    final_fraction: float  # last learning rate as a share of the peak


@dataclass(frozen=True)
class Multipliers:
    """What a parametrization changes in the model itself, as factors of what a standard one has; 1 changes nothing."""

    residual: float  # of what each sublayer adds to the residual stream
    residual_init: float  # of the initial weights that write to the residual stream
    head_init: float  # of an untied head's initial weights
    scores: float  # of the attention scores
    logits: float  # of what the head reads


STANDARD = Multipliers(1.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ParametrizationSpec:
    """How weights, forward pass and step sizes follow the model's size; `recipe.py` holds the rules."""

    kind: str  # "mup", "completep"
    multipliers: Multipliers
    hidden_learning_rate: float  # peak, of matrices with both sides as wide as the model; others: the optimizer's
    hidden_weight_decay: float


@dataclass(frozen=True)
class RecipeSpec:
    """How the model is trained: resolved numbers, not rules."""

    steps: int
    batch_sequences: int
    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    precision: str
    compile: bool
    parametrization: ParametrizationSpec | None  # None: standard

    @property
    def multipliers(self) -> Multipliers:
        return STANDARD if self.parametrization is None else self.parametrization.multipliers


@dataclass(frozen=True)
class RunSpec:
    """One training run."""

    model: TransformerShape
    objective: Objective
    special: SpecialIds | None  # where a pretrained vocabulary has what the objective adds; None: above the data's ids
    data: DataSpec
    recipe: RecipeSpec
    val_tokens: int  # at most so many held-out tokens are scored
    seed: int  # of the initial weights and of the order of the data

    @property
    def lengths(self) -> Lengths:
        """The parts of one sequence."""
        return self.objective.lengths(self.model.context)

    @property
    def batch_tokens(self) -> int:
        """Training tokens of a batch: all that its sequences' towers read."""
        return self.recipe.batch_sequences * self.model.sequence_tokens

    @property
    def train_tokens(self) -> int:
        return self.recipe.steps * self.batch_tokens

    @property
    def text_tokens(self) -> int:
        """Tokens of the data that the run uses up; a decoder's training tokens, fewer or more for other families."""
        return self.recipe.steps * self.recipe.batch_sequences * self.lengths.text

    @property
    def run_id(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON of this spec."""
        text = json.dumps(to_dict(self), sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


# The recipe of a checkpoint that came from elsewhere: not known here.
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
    """What stands in for the recipe of a checkpoint that was trained elsewhere."""

    weights_sha256: str  # of the weights as they are here
    train_tokens: int  # as its importer states them


@dataclass(frozen=True)
class ImportedSpec(RunSpec):
    """A run that was not trained here: its recipe is NO_RECIPE, its data what it is evaluated on."""

    imported: Imported

    @property
    def train_tokens(self) -> int:
        return self.imported.train_tokens

    @property
    def text_tokens(self) -> int:
        return self.train_tokens * self.lengths.text // self.model.sequence_tokens


@dataclass(frozen=True)
class Parent:
    """The finished run whose weights are fine-tuned."""

    run_id: str
    weights_sha256: str


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuned run starts from and what it learns."""

    parent: Parent | None  # None starts from random weights: the control
    task: str
    examples_sha256: str  # of every example, those that train, that choose the step and that are scored
    examples: int  # that train
    classes: int  # of a classification; 0 where the answer is text
    answer_tokens: int  # of an answer in text, at most, its end not counted; 0 for a classification
    evaluations: int  # how often over the run the step may be chosen
    generated: int  # scored examples that are answered in full; 0 for a classification


@dataclass(frozen=True)
class FinetunedSpec(RunSpec):
    """A run that goes on from another's weights, or from random ones, on a task's examples.

    Its shape is the parent's at the task's lengths, its data the parent's, whose tokenizer reads the examples.
    """

    finetuned: Finetuned

    @property
    def batch_tokens(self) -> int:
        """A classification reads its text with the first tower alone."""
        classifies = self.finetuned.classes > 0
        read = self.model.towers()[0].tokens if classifies else self.model.sequence_tokens
        return self.recipe.batch_sequences * read


# Settings of a model that came later, with what every model had until then.
MODEL_BEFORE: dict[str, Any] = {"rotary_pct": 1.0, "parallel_residual": False}


def to_dict(spec: RunSpec) -> dict[str, Any]:
    """The spec as plain JSON values.

    What is as it was before there was a choice is left unsaid, so that ids from then stand.
    """
    values = asdict(spec)
    if spec.recipe.parametrization is None:
        del values["recipe"]["parametrization"]
    if spec.special is None:
        del values["special"]
    for name, before in MODEL_BEFORE.items():
        if values["model"][name] == before:
            del values["model"][name]
    return values


def from_dict(values: dict[str, Any]) -> RunSpec:
    """Rebuild a spec from `to_dict`'s values; unknown keys and kinds raise."""
    recipe = dict(values["recipe"])
    recipe["optimizer"] = OptimizerSpec(**recipe["optimizer"])
    recipe["schedule"] = ScheduleSpec(**recipe["schedule"])
    scaled = recipe.setdefault("parametrization", None)
    if scaled is not None:
        multipliers = Multipliers(**scaled["multipliers"])
        recipe["parametrization"] = ParametrizationSpec(**scaled | {"multipliers": multipliers})
    shape = choose("model kind", SHAPES, values["model"]["kind"])
    objective = choose("objective kind", OBJECTIVE_SPECS, values["objective"]["kind"])
    special = values.get("special")
    given: dict[str, Any] = {
        "model": shape(**MODEL_BEFORE | values["model"]),
        "objective": objective(**values["objective"]),
        "special": None if special is None else SpecialIds(tuple(special["added"]), special["end"]),
        "data": DataSpec(**values["data"]),
        "recipe": RecipeSpec(**recipe),
        "val_tokens": values["val_tokens"],
        "seed": values["seed"],
    }
    if "imported" in values:
        return ImportedSpec(**given, imported=Imported(**values["imported"]))
    if "finetuned" in values:
        parent = values["finetuned"]["parent"]
        start = {"parent": None if parent is None else Parent(**parent)}
        return FinetunedSpec(**given, finetuned=Finetuned(**values["finetuned"] | start))
    return RunSpec(**given)
