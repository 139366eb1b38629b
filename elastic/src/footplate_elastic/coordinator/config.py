"""What the coordinator is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from footplate_contracts.names import COORDINATOR_PORT, Env
from footplate_contracts.reports import SizeCommand, TermsCommand
from footplate_elastic.protocol.outline import (
    RunOutline,
    RunWorld,
    existing_file,
    read_outline,
    read_token,
    run_config_path,
    whole_number,
)


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
