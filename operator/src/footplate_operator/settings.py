"""The operator's settings from environment variables, validated before anything starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from footplate_contracts.names import LogFormat
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_operator.certificates.manifests import CertificateNames
from footplate_operator.certificates.reconciler import ExternalCaBundle
from footplate_operator.installation_settings import InstallationSettings, split_words
from footplate_operator.runtime.kinds import CONFIG_MAP, SECRET
from footplate_operator.scope import Scope
from footplate_operator.trainingrun.revision import Defaults

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_IMAGE: Final = "the name of an image"


def _usual_identity(known: dict[str, Any]) -> str:
    """Return the default identity: a restarted container has the same, and its own Lease back at once.

    Outside a pod the process id distinguishes two operators on one machine.
    """
    name = known["pod_name"] or socket.gethostname()
    return name if known["in_pod"] else f"{name}-{os.getpid()}"


class Settings(InstallationSettings):
    """The operator's configuration."""

    lease_name: ClassVar[str] = "footplate-operator"
    lease_seconds: ClassVar[float] = 15.0

    trainer_image: str = Field(description=_IMAGE)
    coordinator_image: str = Field(description=_IMAGE)
    image_pull_policy: PullPolicy = Field(
        PullPolicy.IF_NOT_PRESENT, description=f"one of {', '.join(PullPolicy)}"
    )
    coordinator_image_pull_policy: PullPolicy | None = Field(
        None, description=f"one of {', '.join(PullPolicy)}"
    )
    # Of Secrets in the namespaces of runs, for their images.
    image_pull_secrets: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words)] = ()
    api_url: str = ""
    api_token_file: Path | None = None
    api_service: str = ""  # of the operator's own namespace; empty: its API proves itself with nothing
    # Where somebody else makes the certificate of that Service: who vouches for it, under ca.crt.
    api_ca_secret: str = ""
    api_ca_config_map: str = ""
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = Field(
        "INFO", description=f"one of {', '.join(get_args(LogLevel))}"
    )
    network_policies: bool = Field(
        False, description="true or false"
    )  # of runs that are admitted from now on
    cluster_scoped: bool = Field(True, description="true or false")  # one of several installations has them
    pod_name: str = ""
    in_pod: Annotated[bool, BeforeValidator(bool)] = Field(False, validation_alias="KUBERNETES_SERVICE_HOST")
    identity: str = Field(default_factory=_usual_identity)
    metrics_port: int = Field(8080, description="a whole number")
    workers: int = Field(8, description="a whole number")  # runs reconciled at the same time
    resync_seconds: float = Field(300.0, description="a number")
    # For how long records wait for the API.
    usage_retention_days: float = Field(7.0, ge=0.0, description="a number, 0 or more")

    @property
    def scope(self) -> Scope:
        """The scope of this installation."""
        return Scope(self.watch_namespaces, self.cluster_scoped, self.namespace)

    @property
    def manages_certificates(self) -> bool:
        """True if this installation has an API of its own, which serves with a certificate."""
        return bool(self.api_service)

    @property
    def certificate_names(self) -> CertificateNames:
        """The Service and namespace of the API's certificate objects."""
        return CertificateNames(self.namespace, self.api_service)

    @property
    def external_ca_bundle(self) -> ExternalCaBundle | None:
        """The object with the CA bundle, where somebody else makes the certificate; else None."""
        if self.api_ca_config_map:
            return ExternalCaBundle(CONFIG_MAP, self.api_ca_config_map)
        return ExternalCaBundle(SECRET, self.api_ca_secret) if self.api_ca_secret else None

    @property
    def defaults(self) -> Defaults:
        """The installation's defaults for fields that a run leaves out."""
        # What is usual is left out, so that a revision is what it was before there was a choice.
        log_format = None if self.log_format is LogFormat.LOGFMT else self.log_format
        policy = self.coordinator_image_pull_policy
        policy = None if policy is self.image_pull_policy else policy
        said = self.model_dump(include=set(Defaults.model_fields))
        secrets = list(self.image_pull_secrets) or None
        choices = {
            "log_format": log_format,
            "coordinator_image_pull_policy": policy,
            "image_pull_secrets": secrets,
        }
        return Defaults(**said | choices | {"network_policy": self.network_policies or None})
