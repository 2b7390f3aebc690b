"""Trials of a run: only its own failures count against it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scaling.records.attempt import CANCELLED, FAILED, LOST, PLANNED, PREEMPTED, claim, run_state
from scaling.records.files import write_json
from scaling.records.orders import cancel, let_retry
from scaling.records.trials import BACK_OFF_S, Trials, trials


def attempts(run_dir: Path, *ends: tuple[str, int, str]) -> Trials:
    """Attempts that ended so: status, step, reason."""
    for end in ends:
        status, step, why = end
        claim(run_dir, 0, {}).end(status, why, step)
    return trials(run_dir)


def test_preemptions_and_losses_never_spend_the_budget_of_failures(tmp_path: Path) -> None:
    found = attempts(tmp_path, *[(PREEMPTED, 3, "stopped")] * 5, (LOST, 3, "died"), (FAILED, 4, "no room"))
    assert found.in_words() == "1 failed, 5 preempted, 1 lost"
    assert found.given_up(retries=1) == ""
    assert found.given_up(retries=0) == "failed once (retries=0), at step 4: no room"


def test_a_failure_that_repeats_word_for_word_at_its_step_is_not_tried_again(tmp_path: Path) -> None:
    failed = (FAILED, 7, "nan")
    assert attempts(tmp_path / "a", failed, failed).given_up(retries=9).startswith("failed 2 times at step 7")
    assert attempts(tmp_path / "b", failed, (FAILED, 8, "nan")).given_up(retries=9) == ""
    assert attempts(tmp_path / "c", *[(LOST, 7, "SIGKILL")] * 3).given_up(retries=9) == ""
    assert attempts(tmp_path / "d", *[(LOST, 7, "SIGKILL")] * 4).given_up(retries=9).startswith("lost 4 times")


def test_losses_without_a_word_repeat_for_ever(tmp_path: Path) -> None:
    for number in range(1, 7):
        (tmp_path / "attempts" / f"{number:04d}").mkdir(parents=True)
    assert trials(tmp_path).in_words() == "6 lost"
    assert trials(tmp_path).given_up(retries=0) == ""


def test_a_failed_run_waits_longer_after_each_failure(tmp_path: Path) -> None:
    found = attempts(tmp_path, (FAILED, 1, "a"))
    assert BACK_OFF_S - 5 < found.back_off_s() <= BACK_OFF_S
    assert attempts(tmp_path, (FAILED, 1, "b")).back_off_s() > BACK_OFF_S
    then = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    write_json(tmp_path / "attempts" / "0002" / "end.json", {"status": FAILED, "why": "b", "step": 1, "ended_at": then})
    assert trials(tmp_path).back_off_s() == 0
    assert attempts(tmp_path, (PREEMPTED, 1, "stopped")).back_off_s() == 0


def test_orders_cancel_a_run_and_let_it_try_again(tmp_path: Path) -> None:
    cancel(tmp_path, "too dear")
    assert (run_state(tmp_path).status, run_state(tmp_path).why) == (CANCELLED, "too dear")
    let_retry(tmp_path, 0)
    assert run_state(tmp_path).status == PLANNED
    assert attempts(tmp_path, (FAILED, 1, "a"), (FAILED, 1, "a")).given_up(retries=1)
    let_retry(tmp_path, 2)
    assert trials(tmp_path).ends == ()


@pytest.mark.parametrize("word", ["interrupted", PREEMPTED])
def test_ends_of_earlier_versions_read_in_todays_words(word: str, tmp_path: Path) -> None:
    assert attempts(tmp_path, (word, 3, "stopped")).ends[0].status == PREEMPTED
    assert run_state(tmp_path).status == PREEMPTED
