"""finetune.json: fine-tuned runs beside their shapes from scratch, and the data that pretraining was worth."""

from typing import Annotated, Literal, TypeAlias, TypedDict

TransferStatus: TypeAlias = Literal["within", "at least", "below", "abstains"]


class TaskScore(TypedDict):
    """A task's score over the scored examples."""

    value: float
    se: float | None


class ParentFacts(TypedDict):
    """The pretrained run that a fine-tuned one started from, as its record states it."""

    run_id: str
    n_params: dict[str, int]
    train_flops: float
    budget_flops: float | None
    train_tokens: float
    val_loss_nats: float | None


class TunedFacts(TypedDict):
    """The part of a fine-tuned run's record that the analysis reads."""

    metric: str
    scores: dict[str, TaskScore]
    best_step: int
    val_examples: int
    val_loss_sums: list[float]
    val_counts: list[float]
    classes: list[str]
    parent: ParentFacts | None
    seen_in_pretraining: bool


class SeedMean(TypedDict):
    """One cell's loss and score, the mean over seeds."""

    loss: Annotated[float, "loss of the answers, nats"]
    score: Annotated[float, "score by the metric"]
    score_se: Annotated[float | None, "standard error of one run's score over examples; null where it has none"]
    seeds: Annotated[int, "seeds"]
    finetuning_flops: Annotated[float, "FLOPs of fine-tuning, one run's"]
    run_ids: Annotated[list[str], "the runs"]


class Gain(TypedDict):
    """The distance of the loss below the control's, paired by document."""

    value: Annotated[float, "control - fine-tuned, nats"]
    se: Annotated[float | None, "standard error over documents; null of fewer than two groups of them"]


class EffectiveData(TypedDict):
    """The examples that pretraining was worth (Hernandez et al. 2021)."""

    status: Annotated[TransferStatus, "within the scratch curve, or the end beyond which the value is a bound"]
    data: Annotated[float | None, "examples from scratch for the same loss, or the bound; null where it abstains"]
    transferred: Annotated[float | None, "these less the fine-tuning examples; null where it abstains"]
    why: Annotated[str, "reason why the data are a bound or unknown; empty within"]


class TunedPoint(SeedMean):
    """A fine-tuned run, its start and its control."""

    parent: Annotated[str, "the pretrained run"]
    params: Annotated[float, "parameters, non-embedding"]
    pretraining_flops: Annotated[float, "FLOPs of pretraining"]
    budget_flops: Annotated[float, "compute budget of pretraining, FLOPs"]
    pretraining_tokens: Annotated[float, "tokens of pretraining"]
    pretraining_loss: Annotated[float | None, "validation loss after pretraining, nats per token; null where unknown"]
    examples: Annotated[int, "fine-tuning examples"]
    scratch: Annotated[SeedMean | None, "the same shape from scratch; null without"]
    gain: Annotated[Gain | None, "gain over it; null without a common seed"]
    transfer: Annotated[EffectiveData, "examples that pretraining was worth"]


class ScratchPoint(SeedMean):
    """A run from random weights."""

    params: Annotated[float, "parameters, non-embedding"]
    examples: Annotated[int, "fine-tuning examples"]


class TunedCurve(TypedDict):
    """The runs of the lowest pretraining loss at each pretraining budget, on one fine-tuning size."""

    examples: Annotated[int, "fine-tuning examples"]
    points: Annotated[list[TunedPoint], "one run a budget, by rising compute"]


class TransferLawEntry(TypedDict):
    """The law D_T = k D_F^alpha N^beta."""

    k: Annotated[float, "factor"]
    alpha: Annotated[float, "exponent of the fine-tuning examples"]
    beta: Annotated[float, "exponent of the parameters"]
    alpha_se: Annotated[float, "standard error of alpha"]
    beta_se: Annotated[float, "standard error of beta"]
    rms: Annotated[float, "root mean square of the residuals of log D_T"]
    points: Annotated[int, "points"]


class BudgetTransfer(TypedDict):
    """Transferred data at one pretraining budget."""

    budget_flops: Annotated[float, "compute budget of pretraining, FLOPs"]
    left_out: Annotated[int, "points that are bounds, negative or abstain"]
    law: Annotated[TransferLawEntry | None, "law through the others; null without"]
    why: Annotated[str, "reason why there is no law; empty where there is one"]


class Won(TypedDict):
    """Pretrained runs against their controls on one fine-tuning size."""

    examples: Annotated[int, "fine-tuning examples"]
    pairs: Annotated[int, "pairs"]
    won: Annotated[int, "pairs in which the pretrained run has the lower loss"]
    surely: Annotated[int, "of these, by more than two standard errors"]
    score_gain: Annotated[float | None, "mean gain of the score; null without a pair"]


class TunedFamily(TypedDict):
    """One kind of model under one objective."""

    points: Annotated[list[TunedPoint], "every fine-tuned run, seeds averaged"]
    curves: Annotated[list[TunedCurve], "one entry a fine-tuning size"]
    scratch: Annotated[list[ScratchPoint], "every control, by fine-tuning size"]
    transfer: Annotated[list[BudgetTransfer], "one entry a pretraining budget"]
    won: Annotated[list[Won], "one entry a fine-tuning size"]


class TunedResults(TypedDict):
    """The whole document."""

    schema: Annotated[Literal[1], "version of this schema"]
    study: Annotated[str, "study of the fine-tuned runs"]
    task: Annotated[str, "task"]
    metric: Annotated[str, "metric of the score"]
    classes: Annotated[list[str], "classes of a classification task; empty for others"]
    val_examples: Annotated[int, "scored examples"]
    notes: Annotated[list[str], "cautions"]
    families: Annotated[dict[str, TunedFamily], "family by kind of model and objective"]
