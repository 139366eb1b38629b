"""The base of every contract: camelCase outside, frozen, nothing unknown.

Kubernetes writes camelCase, Python snake_case; one alias generator keeps both
honest. Unknown keys are errors, because a misspelt field that is ignored costs
a training run days later. What programs write for one another is another matter:
they may be of different releases, and whoever reads passes over what is new to it.
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
        """This record as plain JSON values: camelCase keys, absent where None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The record in `value` (decoded JSON); raises pydantic.ValidationError."""
        return cls.model_validate(value)

    @classmethod
    def from_any_release(cls, value: object) -> Self:
        """As from_json, without the members, however deep, that only another release knows."""
        return cls.model_validate(value, extra="ignore")

    @classmethod
    def passed_over(cls, value: object) -> list[str]:
        """The paths of what from_any_release leaves out of `value`."""
        try:
            cls.model_validate(value)
        except ValidationError as error:
            unknown = [wrong["loc"] for wrong in error.errors() if wrong["type"] == "extra_forbidden"]
            return [".".join(map(str, path)) for path in unknown]
        return []


class Report(Contract):
    """A message between programs that may be of different releases.

    A newer sender may say more than an older receiver knows; that is no reason
    to lose the rest, so unknown keys are dropped instead of refused. Losses are
    sometimes NaN, and that must reach whoever watches: non-finite numbers pass.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True, ser_json_inf_nan="strings")

    def to_json(self) -> dict[str, Any]:
        """As every contract does, and what JSON has no number for is text: "NaN", "Infinity"."""
        text = self.model_dump_json(by_alias=True, exclude_none=True)  # model_dump() would leave NaN as it is
        plain: dict[str, Any] = json.loads(text)
        return plain


def digest(plain: object) -> str:
    """Hex SHA-256 of the canonical JSON: equal records, equal digests."""
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_unknown_as(known: StrEnum) -> BeforeValidator:
    """For a field with members of an enum: one that a newer release added is read as `known`."""
    members = frozenset(type(known))
    return BeforeValidator(lambda value: known if isinstance(value, str) and value not in members else value)


def _readable(given: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(given)
    except ValidationError:
        return None


IF_READABLE = WrapValidator(_readable)
"""For an optional field whose sender must be heard whatever is wrong with it: None then."""


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong, as text: where, what, and the value that was given."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}, not {str(first.get('input'))[:100]!r}"
