"""`spec.telemetry`: sinks of metrics beside the API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.v1alpha1.types import ApiModel, Uri, local_path_rule


class SinkName(StrEnum):
    """Program that reads a sink."""

    TENSORBOARD = "tensorboard"


class Sink(ApiModel):
    """A further destination of every metric row."""

    name: SinkName = Field(description="program that reads the sink")
    uri: Uri = Field(description="folder for this run only")

    rules: ClassVar = (local_path_rule("uri"),)


class Telemetry(ApiModel):
    """Sinks of metrics beside the API."""

    sinks: Annotated[list[Sink], Field(max_length=8)] = Field([], description="destinations of metrics")
