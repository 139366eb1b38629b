"""An object of a kind of ours, decoded once, at the edge.

The API server keeps objects that an older release accepted. One that this
release cannot read must end in a condition, not in a crash, so decoding is a
step of its own with an error of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from pydantic import ValidationError

from footplate_contracts.model import Contract
from footplate_operator.runtime.clock import parse_time

SpecT = TypeVar("SpecT", bound=Contract)
StatusT = TypeVar("StatusT", bound=Contract)


@dataclass(frozen=True)
class Key:
    """How an object is named in queues and logs."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Undecodable(ValueError):
    """The object does not fit this release's models; the message names the first field."""


@dataclass(frozen=True)
class Object(Generic[SpecT, StatusT]):
    """One object; `status` is what was written last."""

    key: Key
    uid: str
    version: str  # resourceVersion
    generation: int
    created: datetime
    deleted: bool  # deletion has begun
    spec: SpecT
    status: StatusT

    @property
    def name(self) -> str:
        """`metadata.name`."""
        return self.key.name

    @property
    def namespace(self) -> str:
        """`metadata.namespace`."""
        return self.key.namespace

    @property
    def ended(self) -> datetime | None:
        """When there was nothing more to do for it but to tidy up; None while there is."""
        return None

    @classmethod
    def read(cls, body: Mapping[str, Any], spec: type[SpecT], status: type[StatusT]) -> Self:
        """The object in `body`; raises Undecodable."""
        metadata = body["metadata"]
        return cls(
            key=key_of(body),
            uid=metadata["uid"],
            version=str(metadata.get("resourceVersion", "")),
            generation=int(metadata.get("generation", 0)),
            created=parse_time(metadata["creationTimestamp"]),
            deleted="deletionTimestamp" in metadata,
            spec=read(spec, body.get("spec", {})),
            status=read(status, body.get("status", {})),
        )


ContractT = TypeVar("ContractT", bound=Contract)


def read(model: type[ContractT], value: object) -> ContractT:
    """The record in `value`; raises Undecodable."""
    try:
        return model.from_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Undecodable(f"{where}: {first['msg']}, not {str(first.get('input'))[:100]!r}") from None


def key_of(body: Mapping[str, Any]) -> Key:
    """The key of an object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])
