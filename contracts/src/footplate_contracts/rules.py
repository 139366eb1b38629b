"""Validation rules that no type can express, written in CEL beside the fields they bind.

A Kubernetes API server runs them from the CRD; the trainer runs the same text
on a file that no cluster has seen. So a rule exists once. Each has a message
with the error, the given value and what would be right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")  # in a message: CEL whose value stands there


class FieldValueErrorReason(StrEnum):
    """Reason of a failed rule, as an API server writes it: `spec.queue: Forbidden: …`."""

    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    REQUIRED = "FieldValueRequired"


@dataclass(frozen=True)
class Rule:
    """CEL rule of a schema node: `expression` must be true of `self`.

    `template` is the message; CEL within braces is replaced by its value, as in
    "minNodes {self.minNodes} is above nodes {self.nodes}". `field` is the member
    of `self` that is to blame, "" for `self` itself. A rule with `oldSelf` binds
    updates only.
    """

    expression: str
    template: str
    field: str = ""
    refusal: FieldValueErrorReason = FieldValueErrorReason.INVALID

    @property
    def is_transition(self) -> bool:
        """True if this rule compares with the object before the update."""
        return "oldSelf" in self.expression

    @property
    def message(self) -> str:
        """The message as a CEL expression of plain concatenation, for any CEL interpreter."""
        parts = PLACEHOLDER.split(self.template)  # text, CEL, text, CEL, …, text
        spoken = [f"string({part})" if place % 2 else literal(part) for place, part in enumerate(parts)]
        return " + ".join(part for part in spoken if part != "''")


forbidden_rule: Final = partial(Rule, refusal=FieldValueErrorReason.FORBIDDEN)
required_rule: Final = partial(Rule, refusal=FieldValueErrorReason.REQUIRED)


def literal(text: str) -> str:
    """Return `text` as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _one_of(field: str, values: tuple[str, ...]) -> str:
    """Return the CEL expression that `field` holds one of `values`."""
    return f"self.{field} in [{', '.join(literal(value) for value in values)}]"


def unsupported_field(field: str) -> Rule:
    """Return the rule for a field of the schema that has no behaviour yet: it must be absent."""
    return forbidden_rule(
        f"!has(self.{field})",
        f"{field} is not supported by this release; remove it",
        field=field,
    )


def supported_values(field: str, *allowed: str) -> Rule:
    """Return the rule that a field holds one of the `allowed` values, the part that this release supports."""
    return forbidden_rule(
        _one_of(field, allowed),
        f"{field} {{self.{field}}} is not supported by this release; use {' or '.join(allowed)}",
        field=field,
    )


def positive(field: str) -> Rule:
    """Return the rule that a number is above zero; OpenAPI in CRDs has no numeric exclusive minimum."""
    return Rule(f"self.{field} > 0.0", f"{field} must be above 0, not {{self.{field}}}", field=field)


def allowed_when(field: str, of: str, *owners: str) -> Rule:
    """Return the rule that a field is present only where `of` holds one of `owners`."""
    return forbidden_rule(
        f"!has(self.{field}) || {_one_of(of, owners)}",
        f"{field} is a field of {' and '.join(owners)}, and {of} is {{self.{of}}}; remove it",
        field=field,
    )


def required(field: str, remedy: str) -> Rule:
    """Return the rule for a field that a later release will let be absent; `remedy` says what it is."""
    return required_rule(
        f"has(self.{field})",
        f"{field} is required: {remedy}",
        field=field,
    )


_ANOTHER_RUN = "; create another run instead"


def immutable(field: str, *, optional: bool = False, unless: str = "", remedy: str = _ANOTHER_RUN) -> Rule:
    """Return the rule that an update leaves a field as it is, unless the CEL condition `unless` holds.

    `field` may be a path, "training.seed"; its last part may be absent where `optional`.
    """
    same = f"self.{field} == oldSelf.{field}"
    if optional:
        same = f"(has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same}))"
    return forbidden_rule(
        f"{unless} || {same}" if unless else same,
        f"{field} cannot be changed{remedy}",
        field=field,
    )
