"""Followers: the processes of a run's ranks above 0, which the process of rank 0 starts and ends.

A follower reads one file, and logs beside it (rank-1.log). It ends when rank 0's process does, whichever way.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaling.machine.slots import rank_environment
from scaling.records.files import write_json

LEFT_ALONE = 3  # exit code of a follower whose exchange with the others failed: the cause lies elsewhere
LAST_WORDS_S = 5.0  # time for a follower that dies to be seen as dead, and to end by itself after the last order


class Followers:
    """The followers of a run of `count` ranks."""

    def __init__(self, folder: Path, count: int, values: Mapping[str, Any]) -> None:
        """Start the followers, which find `values` in the file ranks.json of `folder`."""
        self.count = count
        self._logs = {rank: folder / f"rank-{rank}.log" for rank in range(1, count)}
        write_json(folder / "ranks.json", dict(values))
        self._processes = {rank: self._start(rank, folder / "ranks.json") for rank in self._logs}

    def _start(self, rank: int, file: Path) -> subprocess.Popen[bytes]:
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.count)}
        with self._logs[rank].open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "scaling.train.parallel.rank", str(file)],
                stdin=subprocess.PIPE,  # its end says that rank 0's process has ended
                stdout=log,
                stderr=log,
                env=os.environ | rank_environment(rank, self.count) | own,
                start_new_session=True,  # Ctrl-C reaches rank 0 alone, which ends the others
            )

    def dead(self) -> tuple[str, bool] | None:
        """The words about the first follower that ended by itself, and whether a signal killed it; None without any."""
        for rank, process in self._processes.items():
            code = process.poll()
            if code is None or code in (0, LEFT_ALONE):
                continue
            log = self._logs[rank]
            lines = log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            if code < 0:
                return f"rank {rank} of {self.count} was killed ({signal.Signals(-code).name})", True
            return f"rank {rank} of {self.count} failed: {last}; its log is {log}", False
        return None

    def dead_soon(self) -> tuple[str, bool] | None:
        """As `dead`, after a moment's wait where no follower is dead yet."""
        deadline = time.monotonic() + LAST_WORDS_S
        while (dead := self.dead()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return dead

    def wait(self) -> None:
        """Wait for followers that end by themselves."""
        deadline = time.monotonic() + LAST_WORDS_S
        with suppress(subprocess.TimeoutExpired):
            for process in self._processes.values():
                process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Kill the followers that still run: they have nothing to save."""
        for process in self._processes.values():
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
