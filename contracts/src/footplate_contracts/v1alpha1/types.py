"""Bounded scalars that the resources share.

Every string, list and map has a maximum: CEL's cost estimate multiplies them,
and the API server refuses a CRD whose rules could cost too much.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from footplate_contracts.base import Contract
from footplate_contracts.rules import Rule, forbidden_rule

_URI: Final = 1024
CHECKPOINT_URI_LIMIT: Final = _URI + 64  # the spec's longest, and a directory such as /step-50.e1g1 in it

Uri = Annotated[str, Field(min_length=1, max_length=_URI)]
MOST_PROMOTED: Final = 8  # checkpoints of a run that bear a mark
MOST_STANDING: Final = 32  # checkpoints that a run tells of at once
CheckpointUri = Annotated[str, Field(min_length=1, max_length=CHECKPOINT_URI_LIMIT)]
Label = Annotated[str, Field(min_length=1, max_length=63)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Text = Annotated[str, Field(max_length=1024)]
ShortText = Annotated[str, Field(max_length=253)]  # any name of Kubernetes, or nothing
# The API server's own date-time knows the year 0 and small letters, which Python does not read.
_DATE_TIME = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2})$"
Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time", "pattern": _DATE_TIME})]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
MOST_WHOLE: Final = 1_000_000_000_000_000
Whole = Annotated[int, Field(ge=0, le=MOST_WHOLE)]
Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64)]  # SHA-256 in hex
DataDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", max_length=16)]  # of token shards
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
StringMap = Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=64)]

# A piece of a pod that the API server validates when the pod is created.
Passthrough = Annotated[
    dict[str, Any],
    Field(max_length=64, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]


class ApiModel(Contract):
    """Base of the objects in a resource; `rules` are their CEL rules."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    list_key: ClassVar[str] = ""  # what tells items of a list of these apart; "": their places


def local_path_rule(field: str) -> Rule:
    """Return the rule that a URI is a path, or file:// before one, which this release reads."""
    return forbidden_rule(
        f"!has(self.{field}) || self.{field}.startsWith('file:///') || !self.{field}.contains('://')",
        f"{field} {{self.{field}}} is not supported by this release; use a path on a mounted volume",
        field=field,
    )


def hostless_file_rule(field: str) -> Rule:
    """Return the rule that a file:// URI names no other host: it is of the machine that reads it."""
    return Rule(
        f"!has(self.{field}) || !self.{field}.startsWith('file://') || self.{field}.startsWith('file:///')",
        f"{field} {{self.{field}}} names another host; write file:/// and a path on a mounted volume",
        field=field,
    )
