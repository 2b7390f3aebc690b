"""The `scaling` command: its arguments, its errors in a line, and the exit status."""

import argparse
import os
import sys
from collections.abc import Sequence

from scaling.cli import commands
from scaling.cli.parsers import PROG, parsers
from scaling.launch.exit_codes import INTERRUPTED
from scaling.machine.threads import wait_passively

CLOSED_PIPE = 141  # exit status of a command that the closed pipe of its output ended: 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit status: 0 done, 1 something failed, 2 a mistake in the arguments.

    The status is CLOSED_PIPE where the reader of the output has gone, INTERRUPTED after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    wait_passively()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what the interpreter flushes at its end
        return CLOSED_PIPE
    return status


def _run(arguments: list[str]) -> int:
    command, train = arguments[0] if arguments else "", arguments[:1] == ["train"]
    try:
        if train and not {"-h", "--help"} & set(arguments):
            _refuse_repeats([part for part in arguments[1:] if not part.startswith("-")])
            return commands.train(arguments[1:])  # Hydra reads the rest of the line itself
        options = _parse(arguments)
        _refuse_repeats([*getattr(options, "overrides", ()), *getattr(options, "settings", ())])
        status: int = options.run(options)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # an OSError names its file: a disk is full, a folder read-only
        print(f"{PROG} {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:  # a run that has stopped says how far it came
        print(f"{PROG} {command}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    return status


def _refuse_repeats(overrides: Sequence[str]) -> None:
    """ValueError for a setting that the overrides give twice."""
    given: dict[str, str] = {}
    for part in overrides:
        key = part.partition("=")[0].lstrip("+~")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]} and as {part}: keep one")
        given[key] = part


def _open_closed_streams() -> None:
    """Open the null device where the caller closed a standard stream, lest another file take its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse options and overrides in any order: argparse by itself takes no override after the first option."""
    parser, _ = parsers()
    options, rest = parser.parse_known_args(arguments)
    name = next((name for name in ("overrides", "settings") if name in options), None)
    late = [part for part in rest if "=" in part and not part.startswith("-") and name is not None]
    if len(late) < len(rest):
        parser.error(f"unrecognized arguments: {' '.join(part for part in rest if part not in late)}")
    if late and name is not None:
        setattr(options, name, [*getattr(options, name), *late])
    return options
