"""The courier of an online W&B run: a thread takes rows there, so that no outage or limit there reaches training.

The client blocks where W&B does not answer: at a run's beginning for a minute and a half, at its end for days. Training
hands rows over and goes on. A courier that cannot deliver leaves the rest to `scaling wandb-sync`, since the store
holds every row.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any

from scaling.trackers.tracker import TrackedRun, flat, metrics, scalars

INIT_S = 30.0  # time for W&B to answer at the beginning, which no training waits for
END_S = 10.0  # time that a finished run leaves for its last rows; one that was asked to stop leaves HURRY_S
HURRY_S = 2.0
STAGGER_S = 5.0  # runs of a fleet that start at once begin over so many seconds
PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0  # between two tries to begin, doubled each time
TOKENS = "train/tokens"

Row = Mapping[str, Any]
_beginning = threading.Lock()  # the client begins one run at a time


class Courier:
    """A courier takes the rows of one run to W&B, in order, those of earlier attempts first that W&B lacks."""

    def __init__(self, run: TrackedRun, begin: Callable[[], Any]) -> None:
        """`begin` begins the run of W&B, or raises."""
        self._run, self._begin = run, begin
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        self._ending = threading.Event()
        self._end: tuple[str, Mapping[str, Any]] = ("", {})
        self._why = ""  # why W&B has not taken the run
        self._delivered = False
        self._thread = threading.Thread(target=self._deliver, name=f"wandb {run.run_id}", daemon=True)
        self._thread.start()

    def take(self, row: Row) -> None:
        """Take a row along; this waits for nobody."""
        self._rows.put(row)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """End the run, and wait a moment for its last rows where W&B has answered so far."""
        self._end = (status, summary)
        self._rows.put(None)
        self._ending.set()
        if not self._why:
            self._thread.join(END_S if summary else HURRY_S)
        if not self._delivered:
            why = self._why or "it has not taken the last rows yet"
            rest = f"`scaling wandb-sync` with the folder of study {self._run.study} sends what is missing"
            print(f"tracker=wandb: {self._run.run_id}: {why}; {rest}", flush=True)

    def _deliver(self) -> None:
        """Begin the run and send its rows until its end; whatever the client raises ends the delivery, not the run."""
        try:
            self._ending.wait(STAGGER_S * (int(self._run.run_id[:4], 16) / 16**4))
            begun = self._begun()
            if begun is None:
                return
            print(f"{self._run.name}: {begun.url or ''}", flush=True)
            for _ in sent_rows(begun, self._all_rows()):
                pass
            ended(begun, *self._end)
            self._delivered = True
        except Exception as error:
            self._why = f"{type(error).__name__}: {error}"

    def _begun(self) -> Any:
        """The begun run of W&B; None where the run has ended without an answer."""
        pause_s = PAUSE_S
        while True:
            try:
                with _beginning:
                    begun = self._begin()
                self._why = ""
                return begun
            except ConnectionError as error:
                self._why = str(error)
            if self._ending.wait(pause_s):
                return None
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _all_rows(self) -> Iterator[Row]:
        """The rows on disk at the beginning, then those of this attempt, until its end."""
        yield from self._run.rows()
        while (row := self._rows.get()) is not None:
            yield row


def sent_rows(begun: Any, rows: Iterable[Row]) -> Iterator[Row]:
    """Send the rows beyond those that W&B has, one after another; yield each that was sent.

    W&B has every row up to the tokens of its summary, because rows are sent in their order.
    """
    known = begun.summary.get(TOKENS)
    last = known if isinstance(known, int | float) else -1
    for row in rows:
        if row.get("tokens", last + 1) > last:
            begun.log(metrics(row))
            last = row.get("tokens", last)
            yield row


def ended(begun: Any, status: str, summary: Mapping[str, Any]) -> None:
    """End a run of W&B with its status and its summary."""
    begun.summary.update({"status": status, **scalars(flat(summary))})
    begun.finish(exit_code=0 if status == "done" else 1)
