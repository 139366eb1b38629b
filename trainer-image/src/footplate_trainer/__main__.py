"""`footplate-trainer`: train, pack, plan, diagnose, generate, export, inspect, verify.

A wrong argument or manifest must be reported at once, and importing torch takes
seconds: it is imported only where it is needed. Each subcommand is a module of
`commands`, imported when the command line names it: `add_arguments(parser)` declares
its arguments, and `run(arguments)` executes it and returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from footplate_contracts import logs
from footplate_contracts.names import ExitCode, LogFormat
from footplate_trainer.errors import TrainerError, UserMistake

# As a shell tells SIGINT and SIGPIPE.
_INTERRUPTED: Final = 130
_UNHEARD: Final = 141

_HELP: Final = {
    "train": "train the TrainingRun in a file; also under torchrun",
    "pack": "turn text into token shards",
    "plan": "print mesh, memory and FLOPs for any number of ranks",
    "diagnose": "request stacks, a trace or a memory snapshot from a running job",
    "generate": "continue a text with a trained model",
    "export": "write a checkpoint as a Hugging Face folder",
    "inspect": "print what a checkpoint contains",
    "verify": "verify the checksums of a checkpoint",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="footplate-trainer", description="Train language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text)
        if given[:1] == [name]:
            verb = importlib.import_module(f"footplate_trainer.commands.{name}")
            verb.add_arguments(command)
            command.set_defaults(run_verb=verb.run)
    parsed = parser.parse_args(given)
    try:
        _log_to_console()
        code: int = parsed.run_verb(parsed)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.outcome.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    except BrokenPipeError:
        code = _UNHEARD
    return code


def _log_to_console() -> None:
    """Configure logging: text for a person at a terminal, or the format that the environment names."""
    try:
        log_format = logs.format_of(os.environ, LogFormat.TEXT)
    except ValueError as error:
        raise UserMistake(str(error)) from None
    logs.configure("footplate_trainer", "footplate_elastic", log_format=log_format)


def command() -> None:
    """Run the console script: call `main` and exit without waiting for other threads if it failed."""
    _end(main())


def _end(code: int) -> None:
    """Exit with `code`; at once after a failure, as threads may still wait for peers that are gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads it, such as head, has heard enough
        code = _UNHEARD
    sys.stderr.flush()
    if code not in (ExitCode.SUCCESS, ExitCode.SUSPENDED):
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
