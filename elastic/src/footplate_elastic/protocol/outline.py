"""The outline of a run that the coordinator and agents read: a few RunConfig fields, and the environment.

The whole RunConfig is for ranks. Importing its models takes a sixth of a coordinator's start, for fields that
it never reads, and they refuse keys that they do not know, while an agent of an older image can do without
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from footplate_contracts.base import read_unknown_as
from footplate_contracts.directives import Limits, spec_fields
from footplate_contracts.names import RUN_CONFIG_FILE, RUN_CONFIG_MOUNT, Backend, Env
from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.topology import legal_node_counts


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class RunMetadata(_Part):
    """Name, namespace and uid of the run."""

    name: str
    namespace: str = "default"
    uid: str = ""


class RunWorld(_Part):
    """The gang to gather."""

    nodes: int = Field(1, ge=1)
    min_nodes: int | None = None
    processes_per_node: int = Field(1, ge=1)
    # An agent of an older image measures nothing where ranks have devices that it does not know.
    backend: Annotated[Backend, read_unknown_as(Backend.GLOO)] = Backend.GLOO


class RunTraining(_Part):
    """The end of training, and the size of a step."""

    steps: int | None = None
    global_batch_size: int = 1
    micro_batch_size: int = 1


class RunFolder(_Part):
    """A folder of shards, or one with a tokenizer."""

    uri: str


class RunData(_Part):
    """Locations of the data."""

    uri: str | None = None
    sources: list[RunFolder] | None = None
    tokenizer: RunFolder | None = None

    @property
    def uris(self) -> list[str]:
        """All folders of shards."""
        return [source.uri for source in self.sources or ()] or ([self.uri] if self.uri else [])


class RunMemoryCheckpoint(_Part):
    """In-memory copies of the state."""

    every_steps: int


class RunCheckpoint(_Part):
    """The checkpoint settings that concern agents."""

    memory: RunMemoryCheckpoint | None = None


class RunRollout(_Part):
    """Parallelism of the network while ranks generate."""

    parallelism: RolloutParallelism = RolloutParallelism()


class RunOutline(_Part):
    """The RunConfig fields that matter outside the ranks."""

    run: RunMetadata
    world: RunWorld
    training: RunTraining = RunTraining()
    parallelism: Parallelism = Parallelism()
    rollout: RunRollout | None = None
    data: RunData = RunData()
    checkpoint: RunCheckpoint = RunCheckpoint()
    hang: Hang = Hang()
    limits: Limits | None = Field(None, description="limits of a run whose length is set in steps")

    @model_validator(mode="before")
    @classmethod
    def _gather_limits(cls, document: Any) -> Any:
        """Collect the limits, each of which has a section of its own in the RunConfig."""
        if not isinstance(document, dict):
            return document
        steps = _said_in(document, "training.steps")
        limits = {name: _said_in(document, field.path) for name, field in spec_fields().items()}
        return document | {"limits": {"steps": steps, **limits} if steps is not None else None}

    def legal_sizes(self, least: int, most: int) -> tuple[int, ...]:
        """Return the numbers of nodes from `least` to `most` that may train, ascending."""
        training = self.training
        return legal_node_counts(
            least,
            most,
            self.world.processes_per_node,
            self.parallelism,
            -(-training.global_batch_size // training.micro_batch_size),
            self.rollout.parallelism if self.rollout else None,
        )


def _said_in(document: Mapping[str, Any], path: str) -> Any:
    """Return the value of "section.field" in a RunConfig; None where it is unset."""
    section, _, field = path.partition(".")
    part = document.get(section)
    return part.get(field) if isinstance(part, dict) else None


def read_outline(path: Path) -> RunOutline:
    """Return the outline of the RunConfig in `path`; raises ValueError naming the file and the field.

    An operator of a newer release may add fields to a part that is strict in a spec: they are ignored.
    """
    try:
        return RunOutline.model_validate_json(path.read_bytes(), extra="ignore")
    except OSError as error:
        raise ValueError(f"{Env.RUN_CONFIG} is {path}, which cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}") from None


def whole_number(environment: Mapping[str, str], name: Env, default: int) -> int:
    """Return the integer in variable `name`; raises ValueError for anything else."""
    text = environment.get(name, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"{name} is {text!r}, but must be a whole number") from None


def existing_file(environment: Mapping[str, str], name: Env) -> Path | None:
    """Return the file that variable `name` names, None if unset; raises ValueError if it is missing."""
    text = environment.get(name, "")
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"{name} is {text}, which is not a file")
    return path


def read_token(environment: Mapping[str, str]) -> str:
    """Return the run's token, empty where none is configured."""
    path = existing_file(environment, Env.RUN_TOKEN_FILE)
    return path.read_text().strip() if path else ""


def run_config_path(environment: Mapping[str, str]) -> Path:
    """Return the path at which the RunConfig is mounted."""
    return Path(environment.get(Env.RUN_CONFIG) or f"{RUN_CONFIG_MOUNT}/{RUN_CONFIG_FILE}")
