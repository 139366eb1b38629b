"""What the coordinator and the agents read of a run: a few fields of RunConfig, and the environment.

The whole RunConfig model is for ranks; loading it here would cost the
coordinator a tenth of its memory for fields that it never looks at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from footplate_contracts.names import COORDINATOR_PORT, RUN_CONFIG_FILE, RUN_CONFIG_MOUNT, Env
from footplate_contracts.reports import SizeCommand, TermsCommand
from footplate_contracts.v1alpha1.compute import Hang
from footplate_contracts.v1alpha1.training import Parallelism
from footplate_trainer.parallel.topology import legal_node_counts


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)


class RunName(_Part):
    """Which run this is."""

    name: str
    namespace: str = "default"
    uid: str = ""


class RunWorld(_Part):
    """The gang to gather."""

    nodes: int = Field(1, ge=1)
    min_nodes: int | None = None
    processes_per_node: int = Field(1, ge=1)


class RunTraining(_Part):
    """Where training ends, and what a step is made of."""

    steps: int | None = None
    global_batch_size: int = 1
    micro_batch_size: int = 1


class RunPlace(_Part):
    """A folder of shards, or one with a tokenizer."""

    uri: str


class RunData(_Part):
    """Where the data lies."""

    uri: str | None = None
    sources: list[RunPlace] | None = None
    tokenizer: RunPlace | None = None

    @property
    def uris(self) -> list[str]:
        """All folders of shards."""
        return [one.uri for one in self.sources or ()] or ([self.uri] if self.uri else [])


class RunMemory(_Part):
    """That copies of the state are kept in memory."""

    every_steps: int


class RunCheckpoint(_Part):
    """What of checkpoints concerns agents and coordinator."""

    every_steps: int = 500
    keep_last: int = 3
    keep_every_steps: int | None = None
    memory: RunMemory | None = None


class RunOutline(_Part):
    """The fields of RunConfig that matter outside the ranks."""

    run: RunName
    world: RunWorld
    training: RunTraining = RunTraining()
    parallelism: Parallelism = Parallelism()
    data: RunData = RunData()
    checkpoint: RunCheckpoint = RunCheckpoint()
    hang: Hang = Hang()

    def legal_sizes(self, least: int, most: int) -> tuple[int, ...]:
        """Numbers of nodes from `least` to `most` that may train, ascending."""
        training = self.training
        return legal_node_counts(
            least,
            most,
            self.world.processes_per_node,
            self.parallelism,
            -(-training.global_batch_size // training.micro_batch_size),
        )


def read_outline(path: Path) -> RunOutline:
    """The outline of the RunConfig in `path`; raises ValueError that names the file and the field."""
    try:
        return RunOutline.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{Env.RUN_CONFIG} is {path}, which cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}") from None


def whole_number(environment: Mapping[str, str], name: Env, default: int) -> int:
    """The integer in variable `name`; raises ValueError for anything else."""
    text = environment.get(name, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"{name} is {text!r}; a whole number is right") from None


def existing_file(environment: Mapping[str, str], name: Env) -> Path | None:
    """The file that variable `name` points to, None where unset; raises ValueError if it is not there."""
    text = environment.get(name, "")
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"{name} is {text}, which is no file")
    return path


def wanted_size(environment: Mapping[str, str], world: RunWorld) -> SizeCommand:
    """What was wanted when this process was started: of a run that was resized not what `world` says."""
    text = environment.get(Env.SIZE, "")
    if not text:
        return SizeCommand(nodes=world.nodes, min_nodes=world.min_nodes)
    try:
        return SizeCommand.model_validate_json(text)
    except ValidationError:
        raise ValueError(f'{Env.SIZE} is {text!r}; {{"nodes": 4, "minNodes": 2}} would be right') from None


def wanted_terms(environment: Mapping[str, str], outline: RunOutline) -> TermsCommand | None:
    """Length and checkpoints as asked for when this process was started; None where nothing says."""
    text, steps, every = environment.get(Env.TERMS, ""), outline.training.steps, outline.checkpoint
    if not text and steps is None:
        return None
    if not text:
        return TermsCommand(steps=steps, **every.model_dump(exclude={"memory"}))
    try:
        return TermsCommand.model_validate_json(text)
    except ValidationError:
        right = '{"steps": 100, "everySteps": 10, "keepLast": 3}'
        raise ValueError(f"{Env.TERMS} is {text!r}; {right} would be right") from None


def read_token(environment: Mapping[str, str]) -> str:
    """The run's token, empty where none is configured."""
    path = existing_file(environment, Env.RUN_TOKEN_FILE)
    return path.read_text().strip() if path else ""


def run_config_path(environment: Mapping[str, str]) -> Path:
    """Where the RunConfig is mounted."""
    return Path(environment.get(Env.RUN_CONFIG) or f"{RUN_CONFIG_MOUNT}/{RUN_CONFIG_FILE}")


@dataclass(frozen=True)
class CoordinatorConfig:
    """Everything the coordinator is told."""

    outline: RunOutline
    size: SizeCommand
    terms: TermsCommand | None
    epoch: int
    port: int
    token: str
    certificate: Path | None
    key: Path | None
    api_url: str

    @property
    def telemetry_url(self) -> str:
        """Where batches go; empty when no API is configured."""
        if not self.api_url:
            return ""
        run = self.outline.run
        return f"{self.api_url.rstrip('/')}/v1/namespaces/{run.namespace}/runs/{run.name}/telemetry"


def from_environment(environment: Mapping[str, str] = os.environ) -> CoordinatorConfig:
    """The configuration; raises ValueError for what cannot work."""
    certificate = existing_file(environment, Env.TLS_CERTIFICATE_FILE)
    key = existing_file(environment, Env.TLS_KEY_FILE)
    if (certificate is None) != (key is None):
        raise ValueError(f"{Env.TLS_CERTIFICATE_FILE} and {Env.TLS_KEY_FILE} go together, only one is set")
    outline = read_outline(run_config_path(environment))
    return CoordinatorConfig(
        outline=outline,
        size=wanted_size(environment, outline.world),
        terms=wanted_terms(environment, outline),
        epoch=whole_number(environment, Env.COORDINATOR_EPOCH, 1),
        port=whole_number(environment, Env.COORDINATOR_PORT, COORDINATOR_PORT),
        token=read_token(environment),
        certificate=certificate,
        key=key,
        api_url=environment.get(Env.API_URL, ""),
    )
