"""Settings that all programs of an installation's operator share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from footplate_contracts.environment import PREFIX
from footplate_contracts.names import LogFormat
from footplate_operator.keys.manifests import KeySecretNames


def split_words(text: str) -> list[str]:
    """Return the words of a list that commas separate."""
    return [word.strip() for word in text.split(",") if word.strip()]


class InstallationSettings(BaseSettings):
    """Settings of the installation: namespaces and key; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, validate_default=False, frozen=True
    )

    log_format: Annotated[LogFormat, Field(description=f"one of {', '.join(LogFormat)}")] = LogFormat.LOGFMT
    namespace: str = "default"
    watch_namespaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words)] = ()  # empty: all
    keys_name: str = "footplate-run-key"  # of a Secret, and the beginning of others' names

    @property
    def keys(self) -> KeySecretNames:
        """The names of the Secrets for the key and handed over credentials."""
        return KeySecretNames(self.namespace, self.keys_name)
