"""A GPU gives the numbers of the CPU, whatever the way of taking steps, within its memory and without waiting."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.model import build
from scaling.objectives.chunked_loss import keeps_sums
from scaling.objectives.fused_loss import failure, is_fused
from scaling.objectives.losses import auxiliary_losses, logits_of, mean_loss
from scaling.records.attempt import Attempt
from scaling.records.life import Reporter
from scaling.records.record import RunRecord, read_records
from scaling.spec.memory import step_bytes
from scaling.spec.objective import Masked, Prefix
from scaling.spec.run_spec import RunSpec
from scaling.train.checkpoint import tables_of
from scaling.train.checkpoint_writer import Writer
from scaling.train.lockstep import train_stack
from scaling.train.step import Stepper
from scaling.train.validation import evaluate
from tests.examples import ENCODER, ENCODER_DECODER, FAMILIES, SHORT, TINY, asked, runtime_in
from tests.gpu.ways import SMALL, WAYS, Way, batches, losses
from tests.train.test_loop import DATA, StopAt, curve, run, spec_for

pytestmark = pytest.mark.filterwarnings(
    "default"
)  # torch warns that it watches not every wait; the compiler, of itself
CPU = torch.device("cpu")
FP32, BF16 = 1e-4, 1e-2  # relative, of losses after some steps: other kernels sum in another order
NEXT_SENTENCE = Masked("masked", 0.2, 0.8, 0.1, whole_words=False, next_sentence=True)
CASES = {name: spec_for(model=shape, objective=objective) for name, (shape, objective) in FAMILIES.items()} | {
    "prefix": spec_for(objective=Prefix("prefix", 0.1, 0.5)),
    "next sentence": spec_for(
        model=replace(ENCODER, vocab_size=40, segments=True, next_sentence=True), objective=NEXT_SENTENCE
    ),
    "as in Llama": spec_for(
        model=replace(
            TINY, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False, n_kv_heads=2,
            tied_embeddings=False
        )
    ),
    "as in Pythia": spec_for(model=replace(TINY, positions="rotary", rotary_pct=0.5, parallel_residual=True)),
    "as in T5": spec_for(
        model=replace(ENCODER_DECODER, positions="relative", norm="rmsnorm", attention_scale=False),
        objective=FAMILIES["encoder_decoder"][1],
    ),
    "post-norm": spec_for(model=replace(TINY, norm_place="post", positions="sinusoidal")),
}  # fmt: skip


def gradients(spec: RunSpec, device: torch.device) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a batch, and every gradient, on the CPU."""
    model = build(spec.model, spec.seed).to(device)
    (batch,) = (batch.to(device) for batch in batches(spec, 1))
    output = model.read(*batch.inputs)  # type: ignore[operator]
    loss = mean_loss(logits_of(output), batch.targets_BP, batch.weights_BP)
    loss = loss + sum(auxiliary_losses(output, batch).values())
    loss.backward()
    return loss.item(), {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CASES)
def test_every_family_and_objective_has_the_loss_and_gradients_of_the_cpu(name: str, device: torch.device) -> None:
    (loss, found), (expected_loss, expected) = (gradients(CASES[name], where) for where in (device, CPU))
    assert loss == pytest.approx(expected_loss, rel=FP32)
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-3, atol=1e-5, msg=lambda text, key=key: key + text)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_of_taking_steps_has_the_losses_of_the_plain_way(name: str, device: torch.device) -> None:
    assert losses(SMALL, WAYS[name], device) == pytest.approx(losses(SMALL, Way(), CPU), rel=FP32)


def test_bfloat16_has_the_losses_of_float32_to_its_third_digit(device: torch.device) -> None:
    plain = losses(SMALL, Way(), CPU)
    assert losses(SMALL, Way(precision="bf16"), device) == pytest.approx(plain, rel=BF16)
    assert losses(SMALL, Way(precision="bf16", graphed=True), device) == pytest.approx(plain, rel=BF16)


@pytest.mark.parametrize("cuda_graphs", [False, True], ids=["plain", "graphs"])
def test_a_run_that_goes_on_after_a_stop_is_the_run_that_never_stopped(
    cuda_graphs: bool, device: torch.device, tmp_path: Path
) -> None:
    spec = spec_for(steps=72)  # the noise is measured at step 64
    settings = {"device": device.type, "cuda_graphs": cuda_graphs, "log_points": 18}
    stopped = train_stack([asked(spec, DATA, runtime_in(tmp_path / "a", **settings), 1e6)], [StopAt(66)])
    assert isinstance(stopped[0], KeyboardInterrupt)
    record, other = (run(spec, tmp_path / folder, **settings) for folder in ("a", "b"))
    assert (record.attempts, other.attempts) == (2, 1)
    rows, others = (curve(tmp_path / folder, spec) for folder in ("a", "b"))
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, another in zip(rows, others, strict=True):
        assert row["train_loss"] == pytest.approx(another["train_loss"], rel=FP32)


def test_a_checkpoint_written_beside_training_holds_its_own_step(device: torch.device, tmp_path: Path) -> None:
    stepper = Stepper(build(SMALL.model, 0).to(device), SMALL.recipe, 4, device)
    attempt = Attempt(tmp_path, 1)
    attempt.path.mkdir(parents=True)
    first, *rest = batches(SMALL, 9)
    stepper.take(first, 1.0)
    expected = {name: tensor.detach().cpu().clone() for name, tensor in stepper.model.state_dict().items()}
    with Writer(device, 0.0) as writer:
        writer.save(attempt, tables_of(stepper.model, stepper.optimizer), {"step": 1}, wait=False)
        for batch in rest:  # launched behind the copies, before they are written
            stepper.take(batch, 1.0)
    (path,) = (tmp_path / "checkpoint").iterdir()
    found = load_file(path / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_losses_of_a_validation_are_those_of_the_training_loss(device: torch.device) -> None:
    """By the same kernel, in chunks of a vocabulary that is padded."""
    spec = replace(SMALL, recipe=replace(SMALL.recipe, precision="bf16"))
    stepper = Stepper(build(spec.model, 0).to(device), spec.recipe, 4, device)
    (batch,) = batches(spec, 1)
    validated = evaluate(stepper.model, [batch.to(device)], stepper.autocast)
    assert validated.loss_nats == pytest.approx(stepper.take(batch, 1.0).loss.item(), rel=1e-5)


def test_the_loss_of_a_gpu_is_one_kernel_whose_products_keep_their_digits(device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("the kernel is a GPU's; tests/objectives tries it on the CPU, where Triton is installed")
    assert failure(device) == ""
    assert keeps_sums(device.type, torch.bfloat16, torch.float32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("vocab_size", [257, 8192])
def test_a_step_takes_the_memory_that_is_estimated(vocab_size: int, precision: str, device: torch.device) -> None:
    large = {"n_layers": 4, "d_model": 512, "n_heads": 8, "n_kv_heads": 8, "d_ff": 2048, "context": 512}
    small = {} if device.type == "cpu" else large
    shape = replace(SMALL.model, vocab_size=vocab_size, **small)
    sequences = 4 if device.type == "cpu" else 16
    recipe = replace(SMALL.recipe, precision=precision, batch_sequences=sequences)
    spec = replace(SMALL, model=shape, recipe=recipe)
    expected = step_bytes(spec, sequences, recomputed=False, fused=is_fused(device.type))
    before = allocated(device)
    stepper = Stepper(build(shape, 0).to(device), recipe, sequences, device)
    for batch in batches(spec, 2):
        stepper.take(batch, 1.0)
    assert math.isclose(peak(device, expected) - before, expected, rel_tol=0.15)


def allocated(device: torch.device) -> int:
    if device.type == "cpu":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: torch.device, expected: int) -> int:
    """Peak bytes of the allocator; on the CPU, which has none, the expected bytes."""
    return expected if device.type == "cpu" else torch.cuda.max_memory_allocated(device)


def test_running_out_of_memory_fails_the_run_and_not_the_process(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    spec = spec_for(steps=4)
    runtime = runtime_in(tmp_path, device=device.type, micro_batch_sequences=8)
    with monkeypatch.context() as patch:
        if device.type == "cpu":
            patch.setattr(Stepper, "take", refuse)
        else:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1e-9)
        (failed,) = train_stack([asked(spec, DATA, runtime, 1e6)], [Reporter()])
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(failed, torch.OutOfMemoryError)
    end = json.loads((tmp_path / "s" / spec.run_id / "attempts" / "0001" / "end.json").read_text())
    assert (end["status"], end["why"].partition(":")[0]) == ("failed", "OutOfMemoryError")
    (done,) = train_stack([asked(spec, DATA, runtime, 1e6)], [Reporter()])
    assert isinstance(done, RunRecord)


@pytest.mark.parametrize("way", [Way(), Way(graphed=True), Way(micro_batch=2)], ids=["plain", "graph", "accumulation"])
def test_a_step_never_waits_for_the_device(way: Way, device: torch.device) -> None:
    if device.type == "cuda":
        losses(SMALL, way, device, steps=2)  # libraries initialise
    assert len(losses(SMALL, way, device, 24, before_step=never_wait if device.type == "cuda" else None)) == 24


def never_wait(step: int) -> None:
    """Let torch raise an error at a wait, once the recording is made, and no more after the last step.

    Step 16 records how gradient noise is measured.
    """
    torch.cuda.set_sync_debug_mode("error" if 6 <= step <= 24 and step != 16 else "default")


def commands(*arguments: str, cwd: Path) -> str:
    """Run a command of `scaling`, which need not be installed; return its output."""
    code = "import sys; from scaling.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_slots_that_share_a_gpu_train_a_sweep_to_its_end(command_device: str, tmp_path: Path) -> None:
    settings = [f"runtime.device={command_device}", "hydra.launcher.slots=2", "runtime.cuda_graphs=true", "stack=2"]
    commands("train", "+sweep=smoke", "-m", *settings, "+hydra.sweeper.axes.seed=[0,1]", cwd=tmp_path)
    records = read_records(tmp_path / "runs" / "smoke")
    assert len(records) == 30
    assert {record.hardware["device"] for record in records} == {command_device}


def test_a_trained_run_is_profiled_exported_and_fine_tuned_to_write_text(command_device: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    settings = ["data=stdlib", "model.n_layers=2", "model.context=32", "budget.flops=null", "budget.tokens=20000"]
    commands("train", *settings, *SHORT, f"runtime.device={command_device}", "study=one", cwd=tmp_path)
    (record,) = read_records(tmp_path / "runs" / "one")
    folder = f"runs/one/{record.run_id}"
    commands("profile", folder, "--batches", "1,2", "--device", command_device, cwd=tmp_path)
    commands("export", folder, "--out", "exported", cwd=tmp_path)
    (tmp_path / "pairs.tsv").write_text("".join(f"number {i}\tnum {i}\n" for i in range(60)))
    task = ["task=translation", "task.path=pairs.tsv", "task.source_field=0", "task.target_field=1"]
    task += ["task.target_tokens=6", "task.generated=3", "task.examples=[10]"]
    quick = ["recipe.steps=4", "recipe.epochs=0", "recipe.evaluations=2", "recipe.batch_examples=4"]
    commands("finetune", folder, *task, *quick, f"device={command_device}", cwd=tmp_path)
    assert (tmp_path / "exported" / "model.safetensors").exists()
