"""From command-line overrides to runs, and what is said when they make no sense."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from scaling.config.config import CONF_DIR, compose, to_run
from scaling.config.grid import load_like, split_axes
from scaling.launch.sweep import expand
from scaling.plan.plan import make_plan
from scaling.shapes.matmuls import parameter_counts
from tests.examples import PRESETS, SHORT

RECIPES = sorted(path.stem for path in (CONF_DIR / "recipe").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in (CONF_DIR / "sweep").glob("*.yaml"))
SYNTHETIC = ["data=synthetic", "data.source.tokens=10000", *SHORT]


def plan_of(*overrides: str):  # type: ignore[no-untyped-def]
    fixed, axes = split_axes(overrides)
    cfg = compose(fixed)
    return make_plan(expand(cfg, fixed, axes, load_like), cfg.budget.total_flops)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_model_preset_scales_by_layers_width_and_heads(preset: str) -> None:
    run = to_run(compose([*SYNTHETIC, f"model={preset}", "model.n_layers=3", "model.d_model=96", "model.n_heads=4"]))
    shape = run.spec.model
    assert (shape.n_layers, shape.d_model, shape.n_heads, shape.n_kv_heads) == (3, 96, 4, 4)
    assert shape.vocab_size == 64 + len(run.spec.objective.added_tokens(shape.context))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_states_only_where_it_differs_from_plain(preset: str) -> None:
    plain, own = (OmegaConf.load(CONF_DIR / "model" / f"{name}.yaml") for name in ("plain", preset))
    assert own.pop("defaults")[:2] == ["plain", "_self_"]
    sizes = OmegaConf.missing_keys(plain)
    assert sizes <= set(own)
    assert not [name for name, value in own.items() if name not in sizes and plain[name] == value]


def test_gpt2_preset_is_gpt2_small() -> None:
    run = to_run(compose([*SYNTHETIC, "model=gpt2", "model.vocab_size=50257"]))
    assert parameter_counts(run.spec.model)["total"] == 124_439_808


TWO = ["recipe.batch_tokens.at_least=1024"]  # sequences a batch


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        (["model=pythia", "model.vocab_size=50304"], 162_322_944),  # pythia-160m, as published
        # BertForPreTraining of bert-base-uncased and T5ForConditionalGeneration of t5-small, as published.
        (["model=bert", "model.vocab_size=30522", "objective.next_sentence=true", *TWO], 110_106_428),
        (["model=t5", "model.vocab_size=32128"], 60_506_624),
    ],
)
def test_presets_have_their_published_parameter_counts(overrides: list[str], parameters: int) -> None:
    assert parameter_counts(to_run(compose([*SYNTHETIC, *overrides])).spec.model)["total"] == parameters


@pytest.mark.parametrize("preset", PRESETS)
def test_every_model_preset_sweeps_at_equal_flops(preset: str) -> None:
    plan = plan_of(
        *SYNTHETIC,
        f"model={preset}",
        "model.context=32",
        "hydra.sweeper.budgets=[1e11]",
        "hydra.sweeper.shapes=[{n_layers: 1, d_model: 16, n_heads: 2}, {n_layers: 1, d_model: 32, n_heads: 2}]",
        "hydra.sweeper.sizes={count: 2, span: 2, optimum_params: 10000, at_flops: 1e11, exponent: 0.5}",
    )
    assert len(plan.runs) == 2
    assert all(run.train_flops == pytest.approx(1e11, rel=0.01) for run in plan.runs)


def test_each_family_of_an_axis_gets_sizes_as_itself_counts_them() -> None:
    plan = plan_of("+sweep=objectives")
    assert len(plan.runs) == 45
    widths: dict[str, set[int]] = {}
    for run in plan.runs:
        widths.setdefault(run.family, set()).add(run.d_model)
    assert min(widths["encoder_decoder"]) < min(widths["decoder"])
    assert max(widths["encoder_decoder"]) < max(widths["decoder"])


def test_a_preset_brings_its_objective_and_another_can_be_asked_for() -> None:
    plan = plan_of(*SYNTHETIC, "model=gpt2,bert,t5", "model.n_layers=1", "model.d_model=16", "model.n_heads=2")
    asked = {run.family: run.objective for run in plan.runs}
    assert asked == {"decoder": "causal", "encoder": "masked", "encoder_decoder": "denoising"}
    text = ["model=t5", "objective=infilling", "data=stdlib"]
    assert to_run(compose(text)).spec.objective.kind == "infilling"


@pytest.mark.parametrize("preset", ["bert objective.whole_words=true", "t5 objective=infilling"])
def test_what_needs_text_is_refused_on_ready_tokens(preset: str) -> None:
    with pytest.raises(ValueError, match="words or sentences begin, which a synthetic source of ready tokens does not"):
        to_run(compose([*SYNTHETIC, *f"model={preset}".split()]))


def test_a_batch_of_one_sequence_has_no_other_to_take_a_second_text_from() -> None:
    pairs = [*SYNTHETIC, "model=bert", "objective.next_sentence=true"]
    with pytest.raises(ValueError, match=r"one sequence of model.context=512: set recipe.batch_tokens.at_least=1024"):
        to_run(compose(pairs))
    assert to_run(compose([*pairs, *TWO])).spec.recipe.batch_sequences == 2


def test_added_tokens_widen_the_vocabulary_and_are_named_when_it_is_too_narrow() -> None:
    assert to_run(compose([*SYNTHETIC, "model=bert"])).spec.model.vocab_size == 65
    message = r"vocab_size=64 is smaller than data.vocab_size=64 and the 1 that objective=masked adds \(<mask>\)"
    with pytest.raises(ValueError, match=message):
        to_run(compose([*SYNTHETIC, "model=bert", "model.vocab_size=64"]))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resolves(recipe: str) -> None:
    run = to_run(compose([*SYNTHETIC, f"recipe={recipe}"]))
    assert 0 < run.spec.recipe.optimizer.learning_rate < 0.1
    assert 0 < run.spec.recipe.optimizer.beta2 < 1


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_has_a_question_a_cap_and_a_plan_within_it(sweep: str) -> None:
    cfg = compose([f"+sweep={sweep}"])
    assert cfg.question.endswith("?")
    plan = plan_of(f"+sweep={sweep}")
    sizes = 1 if sweep == "hero" else 5  # the hero is one run, the target of a registered forecast
    assert len(plan.runs) >= sizes * len(cfg.hydra.sweeper.budgets)
    assert plan.total_flops <= cfg.budget.total_flops


def test_the_gpu_sweep_has_long_enough_data_for_every_size_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    plan = plan_of("+sweep=gpu-1e18")
    assert min(run.tokens_per_param for run in plan.runs) >= 3
    assert max(run.epochs for run in plan.runs) < 0.5
    assert plan.worst_warnings() == []


def test_what_does_not_decide_the_outcome_does_not_enter_the_identity() -> None:
    plain = to_run(compose(SYNTHETIC))
    other = to_run(
        compose(
            [
                *SYNTHETIC,
                "study=other",
                "runs_dir=elsewhere",
                "tracker=wandb",
                "runtime.threads=1",
                "runtime.micro_batch_sequences=1",
                "runtime.log_points=5",
                "hydra/launcher=basic",
                "budget.total_flops=1e30",
            ]
        )
    )
    assert other.spec.run_id == plain.spec.run_id
    assert to_run(compose([*SYNTHETIC, "seed=1"])).spec.run_id != plain.spec.run_id


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.n_heads=7", r"n_heads=7 does not divide model.d_model=64"),
        ("model=plain", r"^model.n_layers is missing and has no default; give model.n_layers=VALUE$"),
        ("+model.n_layer=2", r"unknown setting of model 'n_layer': did you mean 'n_layers'\? choose from activation"),
        (
            "+recipe.schedule.steps=2",
            r"unknown setting of recipe.schedule 'steps': choose from cooldown, cooldown_shape",
        ),
        ("model.vocab_size=32", r"model.vocab_size=32 is smaller than data.vocab_size=64"),
        ("recipe.precision=fp8", r"recipe.precision='fp8': choose from fp32, bf16"),
        ("recipe.schedule.kind=step", r"unknown recipe.schedule.kind 'step': .*choose from cosine, wsd"),
        ("budget.flops=-1", r"budget.flops=-1.0: must be positive"),
        ("data.source.kind=web", r"unknown data.source.kind 'web': choose from"),
        (
            "+data.source.states=3",
            r"data.source.states: a synthetic source has no such setting; it has tokens",
        ),
        ("~data.source.order", r"data.source.order is missing: a synthetic source needs it"),
        ("runtime.eval_fractions=[0.5,2]", r"runtime.eval_fractions holds 2.0"),
        ("objective.kind=masked", r"objective.rate is missing: a masked objective needs it; objective=masked has"),
        (
            "objective.kind=maskd",
            r"unknown objective.kind 'maskd': did you mean 'masked'\? choose from causal, denoising",
        ),
        ("+objective.rate=0.1", r"objective.rate: a causal objective has no such setting; it has kind"),
        ("objective=masked", r"objective=masked does not go with model.kind=decoder: .*encoder with objective=masked"),
        (
            "+model.family.head_sees=all",
            r"model.family.head_sees: a model of kind decoder has no such setting; it has none",
        ),
    ],
)
def test_mistakes_name_the_value_and_the_choices(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_run(compose([*SYNTHETIC, override]))


@pytest.mark.parametrize(
    "override",
    ["model.n_layer=2", "budget.flop=1e9", "recipe.lr=1", "model.n_layers=two", "model.n_layers=2.5"],
)
def test_unknown_keys_and_wrong_types_fail_before_anything_runs(override: str) -> None:
    with pytest.raises(ValueError, match=override.partition("=")[0].split(".")[-1]):
        to_run(compose([*SYNTHETIC, override]))


@pytest.mark.parametrize("name", ["learning_rate", "batch_tokens", "weight_decay"])
def test_a_number_is_a_law_of_that_value_at_every_scale(name: str, tmp_path: Path) -> None:
    constant = "{value: 0.5, params: 0, tokens: 0, flops: 0, at_least: null, at_most: null}"
    asked = [*SYNTHETIC, "budget.flops=1e9", "recipe=quickstart"]
    (law,) = plan_of(*asked, f"recipe.{name}={constant}").runs
    (tmp_path / "conf" / "recipe").mkdir(parents=True)
    (tmp_path / "conf" / "recipe" / "mine.yaml").write_text(f"defaults: [quickstart, _self_]\n{name}: 0.5\n")
    for number in (f"recipe.{name}=0.5", f"+hydra.sweeper.axes={{recipe.{name}: [0.5]}}", f"recipe.{name}=0.5,0.25"):
        assert law.run_id in {run.run_id for run in plan_of(*asked, number).runs}
    assert [run.run_id for run in plan_of(*asked[:-1], "recipe=mine").runs] == [law.run_id]
    rows = plan_of(*asked, "recipe.learning_rate=0.5,0.25", "seed=0,1").runs
    assert sorted((run.learning_rate, run.seed) for run in rows) == [(0.25, 0), (0.25, 1), (0.5, 0), (0.5, 1)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.learning_rate=fast", "recipe.learning_rate=fast: must be a number, as recipe.learning_rate=1e-3"),
        ("recipe.learning_rate.value=fast", "recipe.learning_rate.value=fast: must be a number"),
        ("recipe.learning_rate.value=null", "recipe.learning_rate.value=None: must be a number"),
        ("+recipe.learning_rate.vale=1", "unknown setting of recipe.learning_rate 'vale': did you mean 'value'"),
        ("~recipe.learning_rate.params", "recipe.learning_rate.params is missing: a law has value, params"),
    ],
)
def test_a_law_that_is_none_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_run(compose([*SYNTHETIC, override]))


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from scaling.cli import main; main(['plan', '+sweep=smoke']); main(['status', 'runs/none']);"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_negative_number_of_retries_is_refused() -> None:
    with pytest.raises(ValueError, match="retries=-1: must be 0 or above"):
        to_run(compose(["data=synthetic", "retries=-1"]))


def test_settings_are_listed_under_the_groups_asked_for_whatever_else_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    shutil.copy(CONF_DIR / "data" / "tokens.yaml", tmp_path / "conf" / "data" / "mine.yaml")
    for group in ("tokens", "mine"):
        with pytest.raises(ValueError, match=r"data.source 'paths': choose from dtype, kind, train, val$"):
            compose([f"data={group}", "data.source.paths=[a]", "vocab_size=300"])


def test_an_added_setting_that_others_refer_to_is_no_mistake() -> None:
    assert to_run(compose([*SYNTHETIC, "+width=32", "model.d_model=${width}"])).spec.model.d_model == 32
    with pytest.raises(ValueError, match="unknown setting 'width': choose from"):
        to_run(compose([*SYNTHETIC, "+width=32", "seed=1"]))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        *(("seed=-1", "at least 0"), ("val_tokens=0", "at least 1"), ("stack=0", "at least 1")),
        *(("runtime.threads=0", "at least 1"), ("runtime.checkpoint_every_s=-1", "at least 0")),
        *(("runtime.rank_timeout_s=0", "above 0"), ("recipe.eps=-1", "at least 0")),
        *(("recipe.learning_rate=0", "above 0"), ("recipe.learning_rate=-1", "above 0")),
        *(("recipe.learning_rate=nan", "above 0 and finite"), ("recipe.learning_rate=inf", "above 0 and finite")),
        *(("recipe.weight_decay=-1", "at least 0"), ("recipe.batch_tokens=0", "above 0")),
        *(("recipe.beta1=-0.1", "at least 0 and below 1"), ("recipe.beta1=1", "at least 0 and below 1")),
        *(("recipe.beta2=2", "at least 0 and below 1"), ("recipe.clip_norm=0", "above 0")),
        *(("recipe.schedule.final_fraction=-1", "at least 0"),),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_the_range(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(setting)}: must be {words}$"):
        to_run(compose([*SYNTHETIC, setting]))


def test_numbers_at_the_ends_of_their_ranges_are_taken() -> None:
    ends = ["seed=0", "val_tokens=1", "stack=1", "runtime.threads=1", "runtime.checkpoint_every_s=0", "recipe.eps=0"]
    more = ["recipe.weight_decay=0", "recipe.beta1=0", "recipe.beta2=0", "recipe.clip_norm=null"]
    assert to_run(compose([*SYNTHETIC, *ends, *more, "recipe.schedule.final_fraction=0"])).spec.seed == 0


@pytest.mark.parametrize(("name", "given"), [("tokens", -5), ("params", -1), ("fraction", 1.5)])
def test_a_length_of_a_schedule_is_no_less_than_nothing(name: str, given: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}={given}: must be"):
        to_run(compose([*SYNTHETIC, f"recipe.schedule.warmup.{name}={given}"]))
