"""Admission under a study's caps: the last money is spent once, whoever asks at the same moment."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.plan.admission import Admission, BudgetIsHeldError, NoBudgetLeftError, admission
from scaling.plan.run import Run
from scaling.records.attempt import Attempt, claim, run_state
from scaling.records.files import write_json
from scaling.shapes.flops import train_flops_per_step
from scaling.spec.budget import Budget
from scaling.spec.run_spec import to_dict
from tests.examples import SPEC, asked, runtime_in
from tests.train.test_loop import DATA

STEP = train_flops_per_step(SPEC.model, SPEC.recipe.batch_sequences, SPEC.recipe.optimizer.kind)
RUN = SPEC.recipe.steps * STEP


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.plan.admission.HELD_S", 0.0)


def run_of(path: Path, seed: int, **caps: float) -> Run:
    run = asked(replace(SPEC, seed=seed), DATA, runtime_in(path), 1e6)
    return replace(run, budget=replace(run.budget, **caps))


def claimed(run: Run) -> tuple[Admission, Attempt]:
    """The claim of a run as training makes it, not confirmed yet."""
    admitted = admission(run, 0)
    run.directory.mkdir(parents=True, exist_ok=True)
    write_json(run.directory / "spec.json", to_dict(run.spec))
    return admitted, claim(run.directory, 0, admitted.meta)


def test_a_run_beyond_the_cap_does_not_start_and_leaves_no_attempt(tmp_path: Path) -> None:
    with pytest.raises(NoBudgetLeftError, match=r"more than budget\.total_flops=.*; raise the cap"):
        admission(run_of(tmp_path, 0, total_flops=RUN - 1), 0).check()
    admission(run_of(tmp_path, 0, total_flops=RUN), 0).check()
    admission(run_of(tmp_path, 0), 0).check()
    assert not list(tmp_path.glob("s/*/attempts/*"))


def test_a_run_waits_while_runs_in_training_hold_what_they_may_not_need(tmp_path: Path) -> None:
    first, second = (run_of(tmp_path, seed, total_flops=1.5 * RUN) for seed in (0, 1))
    admitted, attempt = claimed(first)
    admitted.confirm(attempt)
    with pytest.raises(BudgetIsHeldError, match=f"run {second.spec.run_id} waits: 0 FLOPs spent, "):
        admission(second, 0).check()
    attempt.end("failed", "no step taken", 0)
    admission(second, 0).check()


def test_of_two_that_claim_at_once_the_later_ticket_is_denied(tmp_path: Path) -> None:
    (early, one), (late, two) = (claimed(run_of(tmp_path, seed, total_flops=1.5 * RUN)) for seed in (0, 1))
    early.confirm(one)
    with pytest.raises(BudgetIsHeldError):
        late.confirm(two)
    assert run_state(one.run_dir).status == "running"
    state = run_state(two.run_dir)
    assert (state.status, state.step) == ("preempted", 0)
    assert "more than budget.total_flops" in state.why


def test_a_claim_without_a_ticket_yet_denies_no_earlier_one(tmp_path: Path) -> None:
    (_, _), (second, attempt) = (claimed(run_of(tmp_path, seed, total_flops=1.5 * RUN)) for seed in (0, 1))
    second.confirm(attempt)  # the first has claimed its run and will find this ticket


def test_many_that_claim_at_once_never_exceed_the_cap(tmp_path: Path) -> None:
    found = [claimed(run_of(tmp_path, seed, total_flops=3.5 * RUN)) for seed in range(8)]
    start, outcomes = threading.Barrier(len(found)), []

    def confirm(admitted: Admission, attempt: Attempt) -> None:
        start.wait()
        try:
            admitted.confirm(attempt)
            outcomes.append(True)
        except (BudgetIsHeldError, NoBudgetLeftError):
            outcomes.append(False)

    threads = [threading.Thread(target=confirm, args=one) for one in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert 1 <= sum(outcomes) <= 3  # a denied ticket may count for a moment


def test_what_failed_counts_as_spent(tmp_path: Path) -> None:
    run = run_of(tmp_path, 0, total_flops=1.3 * RUN)
    admitted, attempt = claimed(run)
    admitted.confirm(attempt)
    write_json(attempt.path / "heartbeat.json", {"taken": 4, "step": 4})
    attempt.end("failed", "a fault", 4)
    with pytest.raises(NoBudgetLeftError):  # ten steps more make fourteen
        admission(run, 0).check()
    admission(run, 4).check()  # from a checkpoint of step 4 there are six


@pytest.mark.parametrize("cap", ["gpu_hours", "usd"])
def test_hours_and_dollars_hold_by_the_estimate(cap: str, tmp_path: Path) -> None:
    hours = admission(run_of(tmp_path, 0), 0).estimate.device_s / 3600
    price = 2.0 if cap == "usd" else 1.0
    caps = {cap: hours * price * 0.9, "usd_per_hour": price}
    with pytest.raises(NoBudgetLeftError, match=f"more than budget.{cap}="):
        admission(run_of(tmp_path, 0, **caps), 0).check()
    admission(run_of(tmp_path, 0, **caps | {cap: hours * price * 1.1}), 0).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"usd": 5.0}, r"budget\.usd=5 needs the price of a device for an hour: give budget\.usd_per_hour"),
        ({"gpu_hours": 0.0}, r"budget\.gpu_hours=0\.0: must be positive and finite"),
        ({"usd_per_hour": -1.0}, r"budget\.usd_per_hour=-1\.0: must be 0 or above"),
        ({"over": "stop"}, r"budget\.over='stop': choose from refuse, drop"),
    ],
)
def test_caps_that_cannot_be_meant_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(1e9, None, None, 0.1, 20, **values)  # type: ignore[arg-type]
