"""Node affinity to labels, as the scheduler of the simulation reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from footplate_operator.runtime.kinds import Json

_OPERATORS: Final[Mapping[str, Callable[[str | None, list[str]], bool]]] = {
    "Exists": lambda value, _: value is not None,
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
}


def required(pod: Json) -> list[Json]:
    """Return the expressions about labels of a pod's required node affinity."""
    terms = _affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return [
        expression
        for term in terms.get("nodeSelectorTerms", [])
        for expression in term.get("matchExpressions", [])
    ]


def preferred(pod: Json) -> list[Json]:
    """Return the expressions of a pod's preferred node affinity."""
    terms = _affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return [expression for term in terms for expression in term["preference"]["matchExpressions"]]


def matches(labels: Mapping[str, str], expressions: list[Json]) -> bool:
    """Return whether a node's labels fulfil all expressions."""
    return all(
        _OPERATORS[wanted["operator"]](labels.get(wanted["key"]), wanted.get("values", []))
        for wanted in expressions
    )


def _affinity(pod: Json) -> Json:
    found: Json = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    return found
