"""Values that many tests start from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from scaling.config.config import CONF_DIR, compose, to_run
from scaling.data.prepare import DataConfig
from scaling.plan.run import Run
from scaling.records.record import SCHEMA, RunRecord
from scaling.shapes.families import EncoderDecoderShape, EncoderShape
from scaling.shapes.shape import TransformerShape
from scaling.spec.budget import Allocation, Budget, Scale
from scaling.spec.objective import Causal, Denoising, Masked, Objective
from scaling.spec.run_spec import DataSpec, OptimizerSpec, RecipeSpec, RunSpec, ScheduleSpec
from scaling.spec.runtime import Runtime
from scaling.trackers.tracker import Attachments, TrackedRun

# Presets of a model, which conf/model/plain.yaml is not: it leaves the size open.
PRESETS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml") if path.stem != "plain")

# Limits of a budget for runs that are too short to be measurements, and quick.
SHORT = ["budget.least_steps=1", "budget.tolerance=100"]

# The shape and the runtime of a preset, so that a new option or setting needs no line here.
_GPT2_RUN = to_run(compose(["model=gpt2", "model.vocab_size=50257", "data=synthetic"]))
GPT2 = _GPT2_RUN.spec.model

TINY = replace(GPT2, n_layers=3, d_model=24, n_heads=6, n_kv_heads=6, d_ff=40, vocab_size=37, context=16)

ENCODER = EncoderShape(
    **asdict(TINY) | {"kind": "encoder", "vocab_size": 38},
    predicted=3,
    head_sees="predicted",
    head_transform=True,
    embedding_norm=True,
    segments=False,
    next_sentence=False,
)
ENCODER_DECODER = EncoderDecoderShape(
    **asdict(TINY) | {"kind": "encoder_decoder", "vocab_size": 39},
    target_context=6,
    attention_scale=True,
    logit_scale=False,
    head_bias=False,
)

SPEC = RunSpec(
    model=TINY,
    objective=Causal("causal"),
    special=None,
    data=DataSpec(
        kind="synthetic",
        fingerprint="f" * 64,
        tokenizer="none",
        tokenizer_sha256=None,
        end_id=None,
        vocab_size=37,
        val_fraction=0.1,
        noise=0.0,
        duplicate=0.0,
        quality_seed=0,
    ),
    recipe=RecipeSpec(
        steps=10,
        batch_sequences=4,
        optimizer=OptimizerSpec("adamw", 1e-3, 0.9, 0.99, 1e-8, 0.1, 1.0),
        schedule=ScheduleSpec("wsd", 2, 3, "1-sqrt", 0.0),
        precision="fp32",
        compile=False,
        parametrization=None,
    ),
    val_tokens=1024,
    seed=0,
)

# The smallest model of each family with an objective that suits it, over the data of SPEC.
FAMILIES: dict[str, tuple[TransformerShape, Objective]] = {
    "decoder": (TINY, SPEC.objective),
    "encoder": (ENCODER, Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=False)),
    "encoder_decoder": (ENCODER_DECODER, Denoising("denoising", 0.2, 1.5)),
}

RECORD = RunRecord(
    schema=SCHEMA,
    run_id="0123456789ab",
    study="s",
    status="done",
    why="",
    spec={"seed": 0},
    params_by_group={"mlp": 3},
    n_params={"total": 3, "non_embedding": 3, "non_embedding_head": 3},
    flops_per_token_by_group={"mlp": 18},
    flops_convention="exact",
    budget_flops=1e3,
    train_flops=990,
    paid_flops=990,
    trunk=None,
    optimizer_flops=0,
    eval_flops=5,
    recompute_flops=0,
    train_tokens=55,
    predicted_tokens=50,
    unique_tokens=100,
    epochs=0.55,
    steps=5,
    val_loss_nats=2.5,
    val_loss_se_nats=0.01,
    val_bits_per_byte=3.6,
    val_auxiliary_nats={},
    train_loss_nats=2.4,
    val_tokens=10,
    entropy_rate_nats=None,
    least_loss_nats=None,
    wall_s=1.0,
    train_s=0.5,
    attempts=1,
    weights_sha256="0",
    hardware={"device": "cpu"},
    versions={"torch": "2"},
    git_commit=None,
    started_at="2026-01-01T00:00:00+00:00",
    ended_at="2026-01-01T00:00:01+00:00",
    imported=None,
    publication="link",
    truth=None,
    finetuned=None,
    continued=None,
)


def runtime_in(path: Path, **changes: Any) -> Runtime:
    here = {
        "study": "s",
        "runs_dir": path,
        "cache_dir": path / "cache",
        "device": "cpu",
        "threads": 1,
        "log_points": 10,
        "eval_fractions": (0.5,),
        "checkpoint_every_s": 1e9,
        "progress": False,
    }
    return replace(_GPT2_RUN.runtime, **here | changes)


def asked(spec: RunSpec, data: DataConfig, runtime: Runtime, budget_flops: float | None = None) -> Run:
    """A run as training takes it; its price is nobody's business here."""
    scale = Scale(params=1.0, tokens=1.0, flops=1.0)
    price = Allocation(scale, spec.recipe.batch_sequences, spec.recipe.steps, spec.train_tokens, 1.0, 1)
    budget = Budget(budget_flops, None if budget_flops else 1.0, None, tolerance=0.1, least_steps=1)
    return Run(spec, price, data, runtime, budget, tuned=None, by_law=None)


def overridden(settings: Sequence[str], more: Sequence[str]) -> list[str]:
    """Command-line settings with `more` in the place of those of the same name; no setting may be given twice.

    Of a setting that is given whole, as `recipe.batch_tokens=256` is, `more` sets no part; of a preset that is chosen,
    as `task=sentiment` is, it does.
    """
    names = {setting.partition("=")[0] for setting in more if "=" in setting}
    given = (setting.partition("=")[0] for setting in settings if "=" in setting)
    whole = tuple(f"{name}." for name in given if "." in name)
    more = [setting for setting in more if not setting.startswith(whole)]
    return [*(setting for setting in settings if setting.partition("=")[0] not in names), *more]


class SilentTracker:
    """A tracker that mirrors nothing, for tests to replace what they look at."""

    settings: ClassVar[Sequence[str]] = ()
    where = ""

    def __init__(self, run: TrackedRun, settings: Mapping[str, Any]) -> None:
        pass

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def attach(self, attachments: Attachments) -> None:
        pass

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        pass
