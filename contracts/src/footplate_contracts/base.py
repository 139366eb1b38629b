"""Base classes of all contracts: camelCase outside, frozen, without unknown keys.

Kubernetes writes camelCase, Python snake_case; one alias generator maps between them.
Unknown keys are errors, because a misspelt field that is ignored costs a training run
days later. Messages between programs differ: sender and receiver may be of different
releases, so the receiver ignores keys that are new to it.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel


class Contract(BaseModel):
    """A frozen record that reads and writes camelCase JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, Any]:
        """Return this record as plain JSON values: camelCase keys, absent where None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Parse the record in `value` (decoded JSON); raises pydantic.ValidationError."""
        return cls.model_validate(value)

    @classmethod
    def from_any_release(cls, value: object) -> Self:
        """Parse `value` as from_json does, without the keys, at any depth, of another release alone."""
        return cls.model_validate(value, extra="ignore")

    @classmethod
    def unknown_fields(cls, value: object) -> list[str]:
        """Return the paths of the keys that from_any_release leaves out of `value`."""
        try:
            cls.model_validate(value)
        except ValidationError as error:
            unknown = [wrong["loc"] for wrong in error.errors() if wrong["type"] == "extra_forbidden"]
            return [".".join(map(str, path)) for path in unknown]
        return []


class WireMessage(Contract):
    """A message between programs that may be of different releases.

    A newer sender may send more than an older receiver knows; the receiver drops unknown keys
    instead of refusing the message. Losses are sometimes NaN, and that must reach the reader:
    non-finite numbers pass.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True, ser_json_inf_nan="strings")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values as every contract does; non-finite numbers become "NaN" and "Infinity"."""
        text = self.model_dump_json(by_alias=True, exclude_none=True)  # model_dump() would leave NaN as it is
        plain: dict[str, Any] = json.loads(text)
        return plain


def digest(plain: object) -> str:
    """Return the hex SHA-256 of the canonical JSON: equal records, equal digests."""
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_unknown_as(known: StrEnum) -> BeforeValidator:
    """Build a validator for a field with members of an enum: members of a newer release become `known`."""
    members = frozenset(type(known))
    return BeforeValidator(lambda value: known if isinstance(value, str) and value not in members else value)


def _readable(given: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(given)
    except ValidationError:
        return None


IF_READABLE = WrapValidator(_readable)
"""For an optional field whose invalid value must not invalidate the message: None instead."""


def first_error(error: ValidationError) -> str:
    """Return the first validation error as text: the field, the message and the given value."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}, not {str(first.get('input'))[:100]!r}"
