"""Rules that no type can say, written in CEL and kept beside the fields they bind.

A Kubernetes API server runs them from the CRD; the trainer runs the same text
on a file that never saw a cluster. So a rule exists once. Each has a message
that says what is wrong, what was given and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One CEL rule of a schema node: `expression` must be true of `self`.

    `message` is itself CEL and yields a string, so that it can name the value
    seen. A rule with `oldSelf` binds updates only.
    """

    expression: str
    message: str

    @property
    def is_transition(self) -> bool:
        """Whether this rule compares with the object before the update."""
        return "oldSelf" in self.expression


def says(text: str) -> str:
    """`text` as a CEL string literal, for a message that needs no value."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def refuse(field: str) -> Rule:
    """A field that has its place in the shape and no behaviour yet."""
    return Rule(f"!has(self.{field})", says(f"{field} is not supported by this release; remove it"))


def only(field: str, *allowed: str, optional: bool = False) -> Rule:
    """A closed set of which this release does only a part."""
    values = ", ".join(says(value) for value in allowed)
    expression = f"self.{field} in [{values}]"
    if optional:
        expression = f"!has(self.{field}) || {expression}"
    supported = " or ".join(allowed)
    return Rule(
        expression,
        f"'{field} ' + self.{field} + ' is not supported by this release; use {supported}'",
    )


def at_default(field: str, literal: str, shown: str) -> Rule:
    """A number, flag or object that this release supports at one value only."""
    return Rule(
        f"!has(self.{field}) || self.{field} == {literal}",
        says(f"{field} other than {shown} is not supported by this release; remove it"),
    )


def positive(field: str) -> Rule:
    """A number above zero; OpenAPI in CRDs has no numeric exclusive minimum."""
    return Rule(f"self.{field} > 0.0", f"'{field} must be above 0, not ' + string(self.{field})")


def unchanging(field: str, *, optional: bool = False, unless: str = "", remedy: str = "") -> Rule:
    """A field that an update must leave as it is, unless the CEL condition `unless` holds."""
    same = f"self.{field} == oldSelf.{field}"
    if optional:
        same = f"(has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same}))"
    expression = f"{unless} || {same}" if unless else same
    return Rule(expression, says(f"{field} cannot be changed{remedy or '; create another run instead'}"))
