"""Checks of reward functions before a rank trains, and the first message to their processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from footplate_contracts.v1alpha1.reward import RewardFunction
from footplate_trainer.errors import UserMistake


def field_path(index: int) -> str:
    """Return the field path of a function, for messages."""
    return f"reward.functions[{index}]"


def check_functions(functions: Sequence[RewardFunction], columns: Collection[str], max_tokens: int) -> None:
    """Raise UserMistake, by the name of the field, for a function that prompts or rollout do not suit."""
    for index, function in enumerate(functions):
        compared = function.number is not None or function.math_verify is not None
        if compared and function.column not in columns:
            raise UserMistake(
                f"{field_path(index)}.column {function.column}: the prompts have no such column but "
                f"{', '.join(sorted(columns)) or 'none'}; name the one that holds the reference answer"
            )
        wanted = None if function.length is None else function.length.tokens
        if wanted is not None and wanted >= max_tokens:
            raise UserMistake(
                f"{field_path(index)}.length.tokens {wanted} is not below rollout.maxTokens {max_tokens}, so "
                "no answer could be longer; lower it or leave it out"
            )


def worker_setup(function: RewardFunction, index: int, columns: Collection[str]) -> dict[str, Any] | None:
    """Return the first message to the process of this reward; None if it needs no process."""
    field = field_path(index)
    told: Mapping[str, Any]
    if function.function is not None:
        told = {"kind": "function", "name": function.function.name, "columns": sorted(columns)}
        return {**told, "field": f"{field}.function.name"}
    if function.math_verify is not None:
        return {"kind": "mathVerify", "field": f"{field}.mathVerify", "column": function.column}
    if function.regular_expression is not None:
        told = {
            "pattern": function.regular_expression.pattern,
            "fullMatch": function.regular_expression.full_match,
        }
        return {"kind": "regularExpression", **told, "field": f"{field}.regularExpression.pattern"}
    if function.json_schema is not None:
        return {
            "kind": "jsonSchema",
            "text": function.json_schema.text,
            "field": f"{field}.jsonSchema.text",
        }
    return None
