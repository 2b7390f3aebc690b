"""Followers: the processes of a run's ranks above 0, which the process of rank 0 starts and ends.

A follower reads one file, and logs beside it (rank-1.log). It ends when rank 0's process does, whichever way. On
another node it is a task of Slurm, whose `srun` here passes its end, its words and the end of its standard input.
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

from scaling.machine.nodes import on_node
from scaling.records.files import write_json

LEFT_ALONE = 3  # exit code of a follower whose exchange with the others failed: the cause lies elsewhere
LAST_WORDS_S = 5.0  # time for a follower that dies to be seen as dead, and to end by itself after the last order
BY_SIGNAL = 128  # what srun adds to the number of the signal that killed its task
SLURMS_WORDS = ("srun:", "slurmstepd:")  # beginnings of lines that are not the follower's own


class Followers:
    """The followers of a run of `count` ranks, spread evenly over `nodes` nodes, rank 0's first."""

    def __init__(self, folder: Path, count: int, nodes: int, values: Mapping[str, Any]) -> None:
        """Start the followers, which find `values` in the file ranks.json of `folder`."""
        self.count, self._on_node = count, count // nodes
        self._logs = {rank: folder / f"rank-{rank}.log" for rank in range(1, count)}
        write_json(folder / "ranks.json", dict(values))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for rank in self._logs:
                self._processes[rank] = self._start(rank, folder / "ranks.json")
        except OSError:  # no leader is there yet, whose end would be theirs
            self.kill()
            raise

    def _start(self, rank: int, file: Path) -> subprocess.Popen[bytes]:
        node, place = divmod(rank, self._on_node)
        own = {"RANK": rank, "WORLD_SIZE": self.count, "LOCAL_RANK": place, "LOCAL_WORLD_SIZE": self._on_node}
        command = [sys.executable, "-m", "scaling.train.parallel.rank", str(file.resolve())]
        with self._logs[rank].open("ab") as log:
            return subprocess.Popen(
                on_node(node, command) if node else command,
                stdin=subprocess.PIPE,  # its end says that rank 0's process has ended
                stdout=log,
                stderr=log,
                env=os.environ | {name: str(value) for name, value in own.items()},
                start_new_session=True,  # Ctrl-C reaches rank 0 alone, which ends the others
            )

    def dead(self) -> tuple[str, bool] | None:
        """The words about the first follower that ended by itself, and whether a signal killed it; None without any."""
        for rank, process in self._processes.items():
            code = process.poll()
            if code is None or code in (0, LEFT_ALONE):
                continue
            log = self._logs[rank]
            if (number := signal_of(code)) is not None:
                return f"rank {rank} of {self.count} was killed ({signal.Signals(number).name})", True
            lines = [line for line in log.read_text(errors="replace").split("\n") if line.strip()]
            own = [line for line in lines if not line.startswith(SLURMS_WORDS)] or lines or [""]
            return f"rank {rank} of {self.count} failed: {own[-1]}; its log is {log}", False
        return None

    def dead_soon(self) -> tuple[str, bool] | None:
        """As `dead`, after a moment's wait where no follower is dead yet."""
        deadline = time.monotonic() + LAST_WORDS_S
        while (dead := self.dead()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return dead

    def wait(self) -> None:
        """Wait for followers that end by themselves."""
        self._wait(self._processes)

    def kill(self) -> None:
        """Kill the followers that still run: they have nothing to save."""
        here = {rank: process for rank, process in self._processes.items() if rank < self._on_node}
        for process in here.values():
            process.kill()
            process.wait()
        for process in self._processes.values():
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()  # a follower on another node ends at its end
        self._wait(self._processes)
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()  # srun then kills its task
        self._wait(self._processes)
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _wait(self, processes: Mapping[int, subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + LAST_WORDS_S
        with suppress(subprocess.TimeoutExpired):
            for process in processes.values():
                process.wait(max(0.0, deadline - time.monotonic()))


def signal_of(code: int) -> int | None:
    """The signal that ended a follower, by its own exit code or by srun's; None where none did."""
    number = -code if code < 0 else code - BY_SIGNAL
    return number if number in {*signal.Signals} else None
