"""Trials of a run: its failures, preemptions and losses, counted apart, and whether it may be tried again."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scaling.records.attempt import FAILED, LOST, PREEMPTED, End, end_of
from scaling.records.orders import forgiven_attempts
from scaling.records.record import attempt_dirs

# Attempts in a row that end at one step with one reason, after which the run itself is the cause. A process that dies
# by SIGKILL may lack memory or have been preempted, so it has more; one that took its worker along left no word.
REPEATED = {FAILED: 2, LOST: 4}
BACK_OFF_S = 30.0  # pause after a first failure; each further failure makes it four times as long
GROWTH = 4.0


@dataclass(frozen=True)
class Trials:
    """The ends of a run's attempts since the last `scaling retry`, none of which is live."""

    ends: tuple[End, ...]

    @property
    def failed(self) -> int:
        """Failures, the only ends that the budget of failures counts."""
        return sum(end.status == FAILED for end in self.ends)

    def in_words(self) -> str:
        """Numbers of failures, preemptions and losses, e.g. `1 failed, 3 preempted`; empty without any."""
        counts = {status: sum(end.status == status for end in self.ends) for status in (FAILED, PREEMPTED, LOST)}
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count)

    def given_up(self, retries: int) -> str:
        """The reason for which nobody tries the run again; empty while it may be tried."""
        for status, times in REPEATED.items():
            last = self.ends[-times:]
            same = {(end.status, end.step, end.why) for end in last if end.ended_at is not None}
            if len(last) == times and len(same) == 1 and last[-1].status == status:
                return f"{status} {times} times at step {last[-1].step} with the same words: {last[-1].why}"
        if self.failed > retries:
            failure = next(end for end in reversed(self.ends) if end.status == FAILED)
            count = "once" if self.failed == 1 else f"{self.failed} times"
            return f"failed {count} (retries={retries}), at step {failure.step}: {failure.why}"
        return ""

    def back_off_s(self) -> float:
        """Seconds until the run may be tried again after its last failure; 0 where the last attempt did not fail."""
        if not self.ends or self.ends[-1].status != FAILED or self.ends[-1].ended_at is None:
            return 0.0
        try:
            since_s = (datetime.now(UTC) - datetime.fromisoformat(self.ends[-1].ended_at)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
        pause_s = BACK_OFF_S * GROWTH ** (self.failed - 1)
        return min(pause_s, max(0.0, pause_s - since_s))


def trials(run_dir: Path) -> Trials:
    """The trials of a run whose attempts have all ended."""
    return Trials(tuple(map(end_of, attempt_dirs(run_dir)[forgiven_attempts(run_dir) :])))
