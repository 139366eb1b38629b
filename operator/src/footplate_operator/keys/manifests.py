"""Secrets in the operator's own namespace for the key and handed over credentials; pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials
from footplate_operator.runtime.kinds import Json

SHARDS: Final = 16  # a Secret ends at 1 MiB, which is some 500 runs
KEY: Final = "key"
LABELS: Final = {
    "app.kubernetes.io/name": "footplate",
    "app.kubernetes.io/component": "keys",
    "app.kubernetes.io/managed-by": "footplate-operator",
}


@dataclass(frozen=True)
class KeySecretNames:
    """Names of the Secrets; all begin with `name`."""

    namespace: str
    name: str

    @property
    def shards(self) -> list[str]:
        """Names of the Secrets with handed over credentials."""
        return [f"{self.name}-handed-over-{number}" for number in range(SHARDS)]

    def shard(self, uid: str) -> str:
        """Return the name of the shard for a run's credentials."""
        return self.shards[hashlib.sha256(uid.encode()).digest()[0] % SHARDS]


def secret(place: KeySecretNames, name: str, data: Mapping[str, bytes]) -> Json:
    """Return the Secret `name` with this data."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": place.namespace, "labels": dict(LABELS)},
        "type": "Opaque",
        "data": {entry: base64.b64encode(value).decode() for entry, value in sorted(data.items())},
    }


def read_key(body: Json) -> bytes:
    """Return the key in its Secret; raises ValueError where there is none."""
    name = body["metadata"]["name"]
    try:
        key = base64.b64decode((body.get("data") or {})[KEY], validate=True)
    except (KeyError, binascii.Error, TypeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"Secret {name}: {KEY} must have {KEY_BYTES} bytes, not {len(key)}; restore the key")
    return key


def encode_entry(credentials: RunCredentials) -> bytes:
    """Return a run's credentials as an entry of a shard."""
    told = {
        "token": credentials.token,
        "certificate": credentials.certificate.decode(),
        "privateKey": credentials.private_key.decode(),
    }
    return json.dumps(told, sort_keys=True).encode()


def read_entries(body: Json) -> dict[str, RunCredentials]:
    """Return handed over credentials by run uid; unreadable entries are skipped."""
    found = {}
    for uid, text in (body.get("data") or {}).items():
        try:
            told = json.loads(base64.b64decode(text))
            found[uid] = RunCredentials(
                told["token"], told["certificate"].encode(), told["privateKey"].encode()
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found
