"""`footplate-trainer`: train, pack, generate, inspect, verify.

A wrong argument or manifest should be told at once: torch, which takes seconds
to import, comes in only where it is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from footplate_contracts.names import ExitCode
from footplate_trainer.errors import TrainerError

# As a shell tells SIGINT and SIGPIPE.
_INTERRUPTED: Final = 130
_UNHEARD: Final = 141

# Each module has add_arguments(parser) and run(arguments) -> exit code.
_COMMANDS: Final = {
    "train": ("footplate_trainer.stages.command", "train the TrainingRun in a file; also under torchrun"),
    "pack": ("footplate_trainer.data.pack", "turn text into token shards"),
    "plan": ("footplate_trainer.stages.plan", "mesh, memory and FLOPs on any number of ranks"),
    "diagnose": ("footplate_trainer.diagnose", "ask a running job for stacks, a trace or memory"),
    "generate": ("footplate_trainer.generate", "go on from a text with a trained model"),
    "export": ("footplate_trainer.export", "write a checkpoint as a Hugging Face folder"),
    "inspect": ("footplate_trainer.checkpoint.inspection", "tell what a checkpoint holds"),
    "verify": ("footplate_trainer.checkpoint.verification", "compare the checksums of a checkpoint"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the process's exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="footplate-trainer", description="Train language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if given[:1] == [name]:
            implementation = import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(run_command=implementation.run)
    parsed = parser.parse_args(given)
    try:
        code: int = parsed.run_command(parsed)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.outcome.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = _INTERRUPTED
    except BrokenPipeError:
        code = _UNHEARD
    return code


def command() -> None:
    """The console script: main, and an end that waits for nobody."""
    _end(main())


def _end(code: int) -> None:
    """Leave now when something failed: threads may still wait for peers that are gone."""
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
