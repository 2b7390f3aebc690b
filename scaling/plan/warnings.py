"""Warnings of a planned run: doubts about its price, and causes beside its size that would move its loss."""

from dataclasses import dataclass

from scaling.plan.run import Run
from scaling.quantities import short
from scaling.records.attempt import RUNNING, RunState
from scaling.shapes.matmuls import parameter_counts
from scaling.spec.budget import TOLERANCE
from scaling.spec.run_spec import RecipeSpec, RunSpec

# Limits beyond which a run's loss is confounded with another cause than its size (Porian et al. 2024 on warm-up).
FEW_STEPS, LONG_WARMUP, FEW_TOKENS_PER_PARAM = 1000, 0.1, 3.0
LARGE_VOCABULARY = 10.0  # its parameters, by those of the layers; assumed
# Batch rule, value * D**exponent, and the tokens that it was measured at (Li et al. 2025, "Step Law").
BATCH_RULE, BATCH_RULE_HOLDS = (0.58, 0.571), (2e9, 1e11)
FAR_FROM_BATCH_RULE = 4.0  # assumed: the loss is flat around the best batch
# Factor beyond which a branch is warned of whose learning rate or batch differs from its own length's; assumed.
FAR_FROM_LAW = 2.0


@dataclass(frozen=True)
class PlanWarning:
    """A warning of a planned run, for the reader who decides whether to train it."""

    kind: str  # "off budget", "repeats data", "few steps", "long warm-up", "few tokens", "busy", "untuned", …
    severity: float  # larger is worse, among warnings of one kind
    text: str


def warnings_of(run: Run, state: RunState, unique_tokens: int, known: bool) -> tuple[PlanWarning, ...]:
    """All warnings of a run; `known` is whether its unique tokens were counted or are estimated."""
    spec, allocation = run.spec, run.allocation
    epochs = spec.text_tokens / unique_tokens
    warnings = []
    if abs(allocation.off_by) > TOLERANCE:
        text = (
            f"{spec.recipe.steps} whole steps realise {allocation.realised_flops:.4g} FLOPs, "
            f"{allocation.off_by:+.1%} off the {allocation.requested_flops:.4g} asked for"
        )
        warnings.append(PlanWarning("off budget", abs(allocation.off_by), text))
    if epochs > 1:
        about = "" if known else "about "
        text = f"repeats its data: {about}{epochs:.3g} epochs of {about}{unique_tokens:,} unique tokens"
        warnings.append(PlanWarning("repeats data", epochs, text))
    warnings += confounders(spec) + far_from_law(spec.recipe, run.by_law or spec.recipe)
    if run.tuned is not None and (beyond := run.tuned.beyond(allocation.scale)):
        far = " and ".join(f"{factor:.2g} times beyond the tuned {name}" for name, factor in beyond.items())
        warnings.append(PlanWarning("untuned", max(beyond.values()), f"lies {far}: its learning rate is extrapolated"))
    if state.status == RUNNING:
        warnings.append(PlanWarning("busy", 1, "is being trained by another process right now"))
    return tuple(warnings)


def far_from_law(used: RecipeSpec, by_law: RecipeSpec) -> list[PlanWarning]:
    """Warnings of a branch whose family's recipe is far from the recipe at its own length."""
    found = []
    for what, mine, lawful in (
        ("a learning rate", used.optimizer.learning_rate, by_law.optimizer.learning_rate),
        ("a batch", used.batch_sequences, by_law.batch_sequences),
    ):
        times = max(mine / lawful, lawful / mine)
        if times > FAR_FROM_LAW:
            text = f"has {what} {times:.2g}x from what the recipe gives at its own length: its trunk's is for all"
            found.append(PlanWarning(f"{what} of a trunk", times, text))
    return found


def confounders(spec: RunSpec) -> list[PlanWarning]:
    """Warnings of causes, beside its size and its data, that would move the loss of a run."""
    found = []
    steps, warmup = spec.recipe.steps, spec.recipe.schedule.warmup_steps
    if steps < FEW_STEPS:
        text = f"trains only {steps} steps: below about {FEW_STEPS:,} its loss shows the optimizer's start, not size"
        found.append(PlanWarning("few steps", -steps, text))
    if warmup > LONG_WARMUP * steps:
        text = f"warms up for {warmup / steps:.0%} of its steps, beyond {LONG_WARMUP:.0%} of them"
        found.append(PlanWarning("long warm-up", warmup / steps, text))
    value, exponent = BATCH_RULE
    asked = value * spec.train_tokens**exponent
    times = max(asked / spec.batch_tokens, spec.batch_tokens / asked)
    if BATCH_RULE_HOLDS[0] <= spec.train_tokens <= BATCH_RULE_HOLDS[1] and times > FAR_FROM_BATCH_RULE:
        text = (
            f"has a batch of {short(spec.batch_tokens)} tokens, {times:.2g}x from the {short(asked)} that a run of "
            f"{short(spec.train_tokens)} tokens asks for ({value:g} D^{exponent:g}, Li et al. 2025)"
        )
        found.append(PlanWarning("batch of other tokens", times, text))
    counts = parameter_counts(spec.model)
    times = counts["total"] / counts["non_embedding"] - 1
    if times > LARGE_VOCABULARY:
        text = (
            f"has {times:.2g}x as many parameters in its embeddings as in its layers, which N counts alone: choose "
            f"larger layers or a smaller vocabulary (data.tokenizer=bytes data.vocab_size=256)"
        )
        found.append(PlanWarning("large vocabulary", times, text))
    ratio = spec.train_tokens / counts["non_embedding"]
    if ratio < FEW_TOKENS_PER_PARAM:
        text = f"sees {ratio:.2g} tokens a parameter: below {FEW_TOKENS_PER_PARAM:g} power laws in size bend"
        found.append(PlanWarning("few tokens", -ratio, text))
    return found
