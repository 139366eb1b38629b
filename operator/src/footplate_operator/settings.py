"""What the operator is told by its environment, checked before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from footplate_contracts.logs import format_of
from footplate_contracts.names import LogFormat
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_operator.errors import SettingsError
from footplate_operator.trainingrun.revision import Defaults


@dataclass(frozen=True)
class Settings:
    """The operator's configuration; `namespaces` empty means all."""

    namespace: str
    identity: str
    defaults: Defaults
    namespaces: tuple[str, ...] = ()
    metrics_port: int = 8080
    workers: int = 8  # runs reconciled at the same time
    resync_seconds: float = 300.0
    lease_name: str = "footplate-operator"
    lease_seconds: float = 15.0
    log_level: str = "INFO"


def from_environment(environment: Mapping[str, str], process: int) -> Settings:
    """The settings in `environment`; raises SettingsError that names the variable.

    Args:
        process: id of this process; tells two operators on one machine apart.
    """
    return Settings(
        namespace=environment.get("FOOTPLATE_NAMESPACE", "") or "default",
        identity=environment.get("FOOTPLATE_IDENTITY", "") or _identity(environment, process),
        defaults=_defaults(environment),
        namespaces=_words(environment.get("FOOTPLATE_WATCH_NAMESPACES", "")),
        metrics_port=_number(environment, "FOOTPLATE_METRICS_PORT", 8080),
        workers=_number(environment, "FOOTPLATE_WORKERS", 8),
        resync_seconds=float(_number(environment, "FOOTPLATE_RESYNC_SECONDS", 300)),
        log_level=environment.get("FOOTPLATE_LOG_LEVEL", "INFO").upper(),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _identity(environment: Mapping[str, str], process: int) -> str:
    """A pod's container that is restarted keeps its name, and so gets its own Lease back at once."""
    name = environment.get("FOOTPLATE_POD_NAME") or socket.gethostname()
    return name if "KUBERNETES_SERVICE_HOST" in environment else f"{name}-{process}"


def _defaults(environment: Mapping[str, str]) -> Defaults:
    policy = environment.get("FOOTPLATE_IMAGE_PULL_POLICY", "") or PullPolicy.IF_NOT_PRESENT.value
    try:
        return Defaults(
            trainer_image=_required(environment, "FOOTPLATE_TRAINER_IMAGE"),
            coordinator_image=_required(environment, "FOOTPLATE_COORDINATOR_IMAGE"),
            image_pull_policy=PullPolicy(policy),
            api_url=environment.get("FOOTPLATE_API_URL", ""),
            log_format=_log_format(environment),
        )
    except (ValidationError, ValueError) as error:
        if isinstance(error, SettingsError):
            raise
        allowed = ", ".join(PullPolicy)
        raise SettingsError(f"FOOTPLATE_IMAGE_PULL_POLICY is {policy!r}; one of {allowed} is right") from None


def _log_format(environment: Mapping[str, str]) -> LogFormat | None:
    """None for the usual one, so that a revision is what it was before there was a choice."""
    try:
        chosen = format_of(environment)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return None if chosen is LogFormat.LOGFMT else chosen


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set; the name of an image is right")
    return value


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    try:
        return int(text) if text else default
    except ValueError:
        raise SettingsError(f"{name} is {text!r}; a whole number is right") from None
