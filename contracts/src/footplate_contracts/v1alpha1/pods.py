"""`spec.trainer`: what a user may say about the pods themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import only, refuse
from footplate_contracts.v1alpha1.types import Name, Part, Passthrough, StringMap


class PullPolicy(StrEnum):
    """As in a pod."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalReference(Part):
    """A named object of the run's namespace."""

    name: Name


class EnvVar(Part):
    """As in a pod; `valueFrom` is passed through."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    value: Annotated[str, Field(max_length=32_768)] | None = None
    value_from: Passthrough | None = None


class SecurityProfile(StrEnum):
    """`restricted` is the Pod Security standard of that name."""

    RESTRICTED = "restricted"
    BASELINE = "baseline"


class Trainer(Part):
    """Image, environment and volumes of worker pods."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="default: the trainer image of the installation"
    )
    image_pull_policy: PullPolicy | None = None
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] = []
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = None
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=256)] | None = None
    env: Annotated[list[EnvVar], Field(max_length=256)] = []
    env_from: Annotated[list[Passthrough], Field(max_length=64)] = []
    volumes: Annotated[list[Passthrough], Field(max_length=64)] = []
    volume_mounts: Annotated[list[Passthrough], Field(max_length=64)] = []
    resources: Passthrough | None = Field(None, description="beside what the profile asks for")
    service_account_name: Name | None = None
    pod_labels: StringMap = {}
    pod_annotations: StringMap = {}
    security_profile: SecurityProfile = SecurityProfile.RESTRICTED

    rules: ClassVar = (
        refuse("command"),
        refuse("args"),
        only("securityProfile", "restricted"),
    )
