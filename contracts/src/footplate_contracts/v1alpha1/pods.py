"""`spec.trainer`: settings of the worker pods themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import supported_values, unsupported_field
from footplate_contracts.v1alpha1.types import ApiModel, Name, Passthrough, StringMap


class PullPolicy(StrEnum):
    """Image pull policy, as in a pod."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LocalObjectReference(ApiModel):
    """A named object of the run's namespace."""

    name: Name = Field(description="its name")


class EnvVar(ApiModel):
    """Environment variable, as in a pod; `valueFrom` is passed through."""

    name: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="name of the variable")
    value: Annotated[str, Field(max_length=32_768)] | None = Field(None, description="value of the variable")
    value_from: Passthrough | None = Field(None, description="source of the value, as in a pod")


class SecurityProfile(StrEnum):
    """Pod Security standards."""

    RESTRICTED = "restricted"
    BASELINE = "baseline"
    PRIVILEGED = "privileged"


GroupId = Annotated[int, Field(ge=0, le=2_147_483_647)]


class SecurityContext(ApiModel):
    """User and group ids of a run's pods; ids that are not set are the platform's choice."""

    run_as_user: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = Field(
        None, description="user id of all containers"
    )
    run_as_group: GroupId | None = Field(None, description="primary group id of all containers")
    fs_group: GroupId | None = Field(None, description="group that owns the files of most volume types")
    supplemental_groups: Annotated[list[GroupId], Field(max_length=32)] | None = Field(
        None, description="additional group ids, such as for NFS"
    )


class Trainer(ApiModel):
    """Image, environment and volumes of worker pods."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="image of the trainer container; default: the installation's trainer image"
    )
    image_pull_policy: PullPolicy | None = None
    image_pull_secrets: Annotated[list[LocalObjectReference], Field(max_length=16)] = Field(
        [], description="pull secrets, as in a pod; empty: the installation's"
    )
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = Field(
        None, description="program to run instead of the trainer"
    )
    args: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=256)] | None = Field(
        None, description="arguments of the program"
    )
    env: Annotated[list[EnvVar], Field(max_length=256)] = Field([], description="additional variables")
    env_from: Annotated[list[Passthrough], Field(max_length=64)] = Field([], description="as in a pod")
    volumes: Annotated[list[Passthrough], Field(max_length=64)] = Field(
        [], description="volumes, as in a pod, for data and checkpoints"
    )
    volume_mounts: Annotated[list[Passthrough], Field(max_length=64)] = Field([], description="as in a pod")
    resources: Passthrough | None = Field(None, description="resources beyond the profile's")
    service_account_name: Name | None = Field(
        None, description="default: none; worker pods get no token, unless from one of their volumes"
    )
    pod_labels: StringMap = Field({}, description="additional labels")
    pod_annotations: StringMap = Field({}, description="additional annotations")
    security_profile: SecurityProfile = Field(
        SecurityProfile.RESTRICTED, description="no effect; the profile's securityProfile applies"
    )
    security_context: SecurityContext | None = Field(None, description="replaces the profile's")
    tolerations: Annotated[list[Passthrough], Field(max_length=32)] | None = Field(
        None, description="tolerations beyond the profile's"
    )
    node_selector: StringMap | None = Field(None, description="node labels beyond the profile's; override it")
    runtime_class_name: Name | None = Field(None, description="replaces the profile's")
    scheduler_name: Name | None = Field(None, description="replaces the profile's")

    rules: ClassVar = (
        unsupported_field("command"),
        unsupported_field("args"),
        supported_values("securityProfile", "restricted"),
    )
