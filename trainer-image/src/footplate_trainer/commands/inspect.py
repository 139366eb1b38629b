"""`footplate-trainer inspect CHECKPOINT`: the content of a checkpoint, without loading it."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any, Self

from footplate_contracts.base import Contract
from footplate_contracts.names import ExitCode
from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint.layout import CheckpointFile, StepDirectory
from footplate_trainer.checkpoint.lookup import locate
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.checkpoint.training_state import HeldOutScores, Key, flatten_key


class Inspection(Contract):
    """The facts about one step directory."""

    directory: str
    run: str
    namespace: str
    step: int
    total_steps: int | None
    generation: str | None  # None where the directory was renamed
    committed: float | None  # seconds since the Unix epoch; None: no commit marker for this directory
    tokens: int
    samples: int
    parameters: int
    trained_parameters: int  # fewer than all where there are adapters
    world_size: int
    parallelism: Parallelism
    bytes: int
    determinism: Key
    scores: HeldOutScores | None  # of a reward model, where validation took them of these weights
    files: list[CheckpointFile]

    @classmethod
    def of(cls, checkpoint: StepCheckpoint) -> Self:
        """Read the facts from the directory; CheckpointError when it is torn."""
        files = checkpoint.manifest().files  # first: in another format nothing else may be read
        config, state = checkpoint.config(), checkpoint.state()
        with storage_errors(checkpoint.name):
            marker = checkpoint.store.marker(state.step)
        named = StepDirectory.parse(checkpoint.directory)
        return cls(
            directory=checkpoint.name,
            run=config.run.name,
            namespace=config.run.namespace,
            step=state.step,
            total_steps=config.training.steps,
            generation=str(named.generation) if named else None,
            committed=marker.time if marker and marker.directory == checkpoint.directory else None,
            tokens=state.tokens,
            samples=state.samples,
            parameters=state.parameters,
            trained_parameters=model_shape(config).trained_parameters,
            world_size=state.world_size,
            parallelism=config.parallelism,
            bytes=sum(record.bytes for record in files),
            determinism=state.key,
            scores=state.scores,
            files=files,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `footplate-trainer inspect`."""
    parser.add_argument("checkpoint", help="a run's checkpoint folder (its newest step), or a step directory")
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print the facts."""
    found = Inspection.of(locate(arguments.checkpoint))
    print(json.dumps(found.to_json(), indent=2) if arguments.output == "json" else as_text(found))
    return ExitCode.SUCCESS


def as_text(found: Inspection) -> str:
    """Format the facts for a person: one a line, then key and files as tables."""
    facts = {
        "checkpoint": found.directory,
        "run": f"{found.namespace}/{found.run}",
        "step": f"{found.step} of {found.total_steps}",
        "generation": found.generation or "unknown: the directory was renamed",
        "committed": _time(found.committed) if found.committed else "no commit marker for this directory",
        "tokens": f"{found.tokens:,}",
        "parameters": _counted(found),
        "layout": f"{found.world_size} ranks: {_layout(found.parallelism)}",
        "size": f"{found.bytes:,} bytes in {len(found.files)} files",
    }
    if found.scores is not None:
        facts["held-out scores"] = f"mean {found.scores.mean:.6g}, deviation {found.scores.deviation:.6g}"
    leaves: Key = {}
    for name, value in found.determinism.items():
        leaves |= flatten_key(value, name)
    key = {name: json.dumps(value) for name, value in sorted(leaves.items())}
    files = [f"  {record.bytes:>15,}  {record.sha256}  {record.file}" for record in found.files]
    return "\n".join([*_table(facts), "determinism key", *_table(key, "  "), "files", *files])


def _counted(found: Inspection) -> str:
    counts = f"{found.parameters:,}"
    frozen = found.parameters - found.trained_parameters
    return f"{counts}, {found.trained_parameters:,} of them trained" if frozen else counts


def _table(facts: dict[str, Any], indent: str = "") -> list[str]:
    width = max(map(len, facts))
    return [f"{indent}{name:<{width}}  {value}" for name, value in facts.items()]


def _layout(parallelism: Parallelism) -> str:
    return ", ".join(f"{name} {value}" for name, value in parallelism.to_json().items())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
