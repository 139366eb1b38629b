"""The CRD's own rules, evaluated without an API server.

A file that trains on a laptop must train in the cluster, and the other way round; a second implementation of
the rules in Python would drift. So the text that the API server compiles is evaluated here too, with the same
messages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError, Context, Evaluator, Result
from pydantic import BaseModel

from footplate_contracts.rules import FieldValueErrorReason, Rule
from footplate_contracts.v1alpha1.types import ApiModel

_TITLES = {
    FieldValueErrorReason.INVALID: "Invalid value",
    FieldValueErrorReason.FORBIDDEN: "Forbidden",
    FieldValueErrorReason.REQUIRED: "Required value",
}
# Levels of precedence in CEL's grammar: one with a single child stands for that child.
_LEVELS: Final = frozenset(
    ("expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member")
)
# Where one side settles the result, and with what: whatever the other is, even an error.
_SETTLING: Final = {"conditionalor": True, "conditionaland": False}


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold; `path` is the field to blame, "" for the whole object."""

    path: str
    message: str
    refusal: FieldValueErrorReason = FieldValueErrorReason.INVALID

    def __str__(self) -> str:
        text = f"{_TITLES[self.refusal]}: {self.message}"
        return f"{self.path}: {text}" if self.path else text


def violations(part: BaseModel, path: str) -> Iterator[Violation]:
    """Yield the rules that `part` at `path` or anything below it breaks, in the order of the fields."""
    if isinstance(part, ApiModel):
        yield from broken_rules(part.rules, part.to_json(), path)
    for name, field in type(part).model_fields.items():
        yield from _below(getattr(part, name), f"{path}.{field.alias or name}")


def broken_rules(rules: Sequence[Rule], value: dict[str, Any], path: str) -> Iterator[Violation]:
    """Yield those `rules` that do not hold for `value`, plain JSON with defaults; skip transition rules."""
    context = {"self": json_to_cel(value)}
    for rule in rules:
        if rule.is_transition:
            continue
        try:
            if _program(rule.expression).evaluate(context):
                continue
            message = str(_program(rule.message).evaluate(context))
        except CELEvalError as error:
            # The API server, too, refuses what it cannot evaluate.
            message = f"{error.args[0]} evaluating rule: {rule.expression}"
        blamed = f"{path}.{rule.field}" if path and rule.field else path or rule.field
        yield Violation(blamed, message, rule.refusal)


def format_double(value: float) -> str:
    """Format `value` as CEL's string() does, which is Go's "%g": 0.5, 100000, 1e+06, 1e-05."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    shortest = Decimal(repr(value)).normalize()
    power = shortest.adjusted()  # of the first digit
    if -4 <= power < 6:  # strconv's "precision 6 for this decision"
        return f"{shortest:f}"
    return f"{shortest.scaleb(-power):f}e{power:+03d}"


def _below(value: object, path: str) -> Iterator[Violation]:
    if isinstance(value, BaseModel):
        yield from violations(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, f"{path}[{key}]")


def _string(value: celtypes.Value) -> celtypes.StringType:
    """Return the result of the API server's '%s'.format([value])."""
    if isinstance(value, celtypes.DoubleType):
        return celtypes.StringType(format_double(float(value)))
    if isinstance(value, celtypes.BoolType):
        return celtypes.StringType("true" if value else "false")
    if isinstance(value, celtypes.ListType):
        items = [json.dumps(item) if isinstance(item, str) else _string(item) for item in value]
        return celtypes.StringType(f"[{', '.join(items)}]")
    return celtypes.StringType(str(value))


class _Evaluator(Evaluator):
    """celpy's evaluator, which computes both sides of `||` and `&&`; here a side that decides is enough."""

    def visit_children(self, tree: celpy.Expression[Any]) -> list[Result]:
        sides: list[Any] = tree.children
        if tree.data not in _SETTLING or len(sides) == 1:
            return super().visit_children(tree)
        first = self.visit(sides[0])
        settled = isinstance(first, celtypes.BoolType) and bool(first) is _SETTLING[tree.data]
        return [first, first if settled else self.visit(sides[1])]

    def sub_evaluator(self, ast: celpy.Expression[Any]) -> _Evaluator:
        return _Evaluator(ast, activation=self.activation)


class _Runner(celpy.InterpretedRunner):
    def evaluate(self, context: Context) -> celtypes.Value:
        return _Evaluator(ast=self.ast, activation=self.new_activation()).evaluate(context)


def _collapsed(tree: celpy.Expression[Any]) -> celpy.Expression[Any]:
    """Return `tree` without nodes that stand for their one child: of a literal the grammar makes nine."""
    children: list[Any] = [
        _collapsed(child) if isinstance(child, celpy.Expression) else child for child in tree.children
    ]
    only: celpy.Expression[Any] | None = children[0] if len(children) == 1 else None
    if only is not None and tree.data in _LEVELS:
        return only
    if only is not None and tree.data == "primary" and only.data == "paren_expr":
        inside: celpy.Expression[Any] = only.children[0]
        return inside
    return celpy.Expression(tree.data, children, tree.meta)


@lru_cache(maxsize=512)
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment(runner_class=_Runner)
    return environment.program(_collapsed(environment.compile(expression)), {"string": _string})
