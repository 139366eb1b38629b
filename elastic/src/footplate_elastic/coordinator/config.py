"""What the coordinator is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from footplate_contracts.directives import Directives, HangBounds, Limits
from footplate_contracts.names import COORDINATOR_PORT, Env
from footplate_elastic.protocol.outline import (
    RunOutline,
    existing_file,
    read_outline,
    read_token,
    run_config_path,
    whole_number,
)


def as_admitted(outline: RunOutline) -> Directives:
    """What the RunConfig says, and so what holds until an operator says something else."""
    steps, kept = outline.training.steps, outline.checkpoint.model_dump(exclude={"memory"})
    return Directives(
        nodes=outline.world.nodes,
        min_nodes=outline.world.min_nodes,
        hang=HangBounds(**outline.hang.model_dump()),
        limits=Limits(steps=steps, **kept) if steps is not None else None,
    )


def wanted(environment: Mapping[str, str], outline: RunOutline) -> Directives:
    """What was wanted when this process was started; raises ValueError for what cannot be read."""
    text, admitted = environment.get(Env.DIRECTIVES, ""), as_admitted(outline)
    if not text:
        return admitted
    try:
        told = Directives.model_validate_json(text)
        absent = {"hang": told.hang or admitted.hang, "limits": told.limits or admitted.limits}
        return told.model_copy(update=absent)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{Env.DIRECTIVES} is {text!r}: {where}: {first['msg']}") from None


@dataclass(frozen=True)
class CoordinatorConfig:
    """Everything the coordinator is told."""

    outline: RunOutline
    directives: Directives
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
        directives=wanted(environment, outline),
        epoch=whole_number(environment, Env.COORDINATOR_EPOCH, 1),
        port=whole_number(environment, Env.COORDINATOR_PORT, COORDINATOR_PORT),
        token=read_token(environment),
        certificate=certificate,
        key=key,
        api_url=environment.get(Env.API_URL, ""),
    )
