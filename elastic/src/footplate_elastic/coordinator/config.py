"""The coordinator's configuration, read from environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from footplate_contracts.base import first_error
from footplate_contracts.directives import Directives, HangTimeouts
from footplate_contracts.names import COORDINATOR_PORT, RUN_CONFIG_FILE, RUN_CONFIG_MOUNT, Env, LogFormat
from footplate_elastic.protocol.outline import RunOutline, read_outline

_NUMBER: Final = "a whole number"
_FILE: Final = "a file that exists"


def admitted_directives(outline: RunOutline) -> Directives:
    """Return the directives of the RunConfig, which hold until an operator sends others."""
    return Directives(
        nodes=outline.world.nodes,
        min_nodes=outline.world.min_nodes,
        hang=HangTimeouts(**outline.hang.model_dump()),
        limits=outline.limits,
    )


def _directives(text: str) -> Directives:
    try:
        return Directives.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{Env.DIRECTIVES} is {text!r}: {first_error(error)}") from None


class CoordinatorConfig(BaseSettings):
    """The coordinator's settings; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, validate_default=False, frozen=True)

    outline: Annotated[RunOutline, NoDecode, BeforeValidator(lambda path: read_outline(Path(path)))] = Field(
        Path(RUN_CONFIG_MOUNT, RUN_CONFIG_FILE), validation_alias=Env.RUN_CONFIG, validate_default=True
    )
    told: Annotated[Directives | None, NoDecode, BeforeValidator(_directives)] = Field(
        None, validation_alias=Env.DIRECTIVES
    )
    epoch: int = Field(1, validation_alias=Env.COORDINATOR_EPOCH, description=_NUMBER)
    port: int = Field(COORDINATOR_PORT, validation_alias=Env.COORDINATOR_PORT, description=_NUMBER)
    token_file: FilePath | None = Field(None, validation_alias=Env.RUN_TOKEN_FILE, description=_FILE)
    certificate: FilePath | None = Field(None, validation_alias=Env.TLS_CERTIFICATE_FILE, description=_FILE)
    key: FilePath | None = Field(None, validation_alias=Env.TLS_KEY_FILE, description=_FILE)
    api_url: str = Field("", validation_alias=Env.API_URL)
    # They need not exist yet, nor for ever: they are read for each batch.
    api_token_file: Path | None = Field(None, validation_alias=Env.API_TOKEN_FILE)
    api_authorities: Path | None = Field(None, validation_alias=Env.API_CA_FILE)
    log_format: LogFormat = Field(
        LogFormat.LOGFMT, validation_alias=Env.LOG_FORMAT, description=f"one of {', '.join(LogFormat)}"
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError(f"{Env.TLS_CERTIFICATE_FILE} and {Env.TLS_KEY_FILE}: set both or neither")
        return self

    @property
    def directives(self) -> Directives:
        """The directives at the start of this process."""
        admitted = admitted_directives(self.outline)
        if self.told is None:
            return admitted
        absent = {"hang": self.told.hang or admitted.hang, "limits": self.told.limits or admitted.limits}
        return self.told.model_copy(update=absent)

    @property
    def token(self) -> str:
        """The run's token; empty where none is configured."""
        return self.token_file.read_text().strip() if self.token_file else ""

    @property
    def telemetry_url(self) -> str:
        """The URL that receives telemetry batches; empty when no API is configured."""
        if not self.api_url:
            return ""
        run = self.outline.run
        return f"{self.api_url.rstrip('/')}/v1/namespaces/{run.namespace}/runs/{run.name}/telemetry"
