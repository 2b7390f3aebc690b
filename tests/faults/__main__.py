"""Every scenario at length, `python -m tests.faults [NAME ...]`: the table of docs/surviving.md, row by row."""

import sys
import tempfile
import time
from pathlib import Path

from scaling.registry import choose
from tests.faults.scenarios import SCENARIOS

chosen = {name: choose("scenario", SCENARIOS, name) for name in sys.argv[1:] or SCENARIOS}
print("| scenario | injury | injuries | runs | seconds |\n|---|---|--:|--:|--:|", flush=True)
for name, scenario in chosen.items():
    if why := scenario.missing():
        print(f"| {name} | {scenario.words} | not run: {why} | | |", flush=True)
        continue
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        tally = scenario.run(Path(folder), long=True)
        took = time.monotonic() - began
        assert took <= scenario.within_s, f"{name} took {took:.0f} s, more than {scenario.within_s:.0f}"
        print(f"| {name} | {scenario.words} | {tally.injuries} | {tally.runs} | {took:.0f} |", flush=True)
        print(tally.printed.strip(), file=sys.stderr, flush=True)
