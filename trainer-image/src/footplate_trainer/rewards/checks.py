"""Checks of reward functions before a rank trains, and what their processes begin with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Any, Final

from footplate_contracts.names import REWARD_SECRET_PREFIX
from footplate_contracts.v1alpha1.reward import RewardFunction, secret_names
from footplate_trainer.errors import UserMistake

_ALLOWED: Final = (
    *("PATH", "HOME", "USER", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HF_HOME"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)


def field_path(index: int) -> str:
    """Return the field path of a function, for messages."""
    return f"reward.functions[{index}]"


def check_functions(functions: Sequence[RewardFunction], columns: Collection[str], max_tokens: int) -> None:
    """Raise UserMistake, by the name of the field, for a function that prompts or rollout do not suit."""
    for index, function in enumerate(functions):
        compared = function.number is not None or function.math_verify is not None
        if compared and function.column not in columns:
            raise UserMistake(
                f"{field_path(index)}.column {function.column}: not a column of the prompts, which have "
                f"{', '.join(sorted(columns)) or 'none'}; set the column of the reference answer"
            )
        wanted = None if function.length is None else function.length.tokens
        if wanted is not None and wanted >= max_tokens:
            raise UserMistake(
                f"{field_path(index)}.length.tokens {wanted} is not below rollout.maxTokens {max_tokens}, so "
                "no answer could be longer; lower it or remove it"
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


def environment_of(
    function: RewardFunction, environment: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables for the process of `function`: variables that all may read, and its secrets."""
    known = {name: environment[name] for name in _ALLOWED if name in environment}
    own = {name: secrets[name] for name in secret_names([function])}
    # What it prints is told at once; the devices are the rank's.
    return known | {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""} | own


def pop_secrets(functions: Sequence[RewardFunction], environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the variables of the functions' `secrets` from `environment` and return them.

    In a pod a secret's variable has the prefix REWARD_SECRET_PREFIX; elsewhere it may have its plain name.
    Raises UserMistake if one is missing. No message contains a value.
    """
    found: dict[str, str] = {}
    for index, function in enumerate(functions):
        for name in secret_names([function]):
            places = (f"{REWARD_SECRET_PREFIX}{name}", name)
            place = next((place for place in places if place in environment), None)
            if place is not None:
                found[name] = environment.pop(place)
            if name not in found:
                raise UserMistake(
                    f"reward.functions[{index}].function.secrets: variable {name} is missing; set it in "
                    "trainer.env with valueFrom.secretKeyRef"
                )
    return found
