"""Every error a caller can get -> one `application/problem+json` (RFC 9457), as OpenAPI has it; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, Field

from footplate_api.errors import ApiError, FieldError

MEDIA_TYPE: Final = "application/problem+json"
_SHOWN: Final = 200  # characters of a wrong value that are repeated
_SCHEMAS: Final = "#/components/schemas/"


class ProblemField(BaseModel):
    """A wrong field of a request."""

    field: str = Field(examples=["body.rows[3].metrics.loss"])
    value: str | None = Field(None, description="what was given, cut after 200 characters")
    message: str = Field(description="what would be right")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(examples=["urn:footplate:problem:run-not-found"])
    title: str
    status: int
    detail: str = Field(description="a sentence for a person")
    requestId: str = Field(description="also in the log and in the header X-Request-Id")
    errors: list[ProblemField] = []


# What every operation answers besides: with it FastAPI leaves out an answer of its own to what is invalid.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "Anything that went wrong",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
    }
}


def schemas() -> dict[str, Any]:
    """What RESPONSES refers to, by name."""
    problem = Problem.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    return {**problem.pop("$defs"), "Problem": problem}


def problem(error: ApiError, request_id: str) -> dict[str, Any]:
    """The body for `error`; `type` names the class, so that programs need not read prose."""
    kebab = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    body = Problem(
        type=f"urn:footplate:problem:{kebab}",
        title=error.title,
        status=error.status,
        detail=sayable(error.detail),
        requestId=request_id,
        errors=[_field(wrong) for wrong in error.fields],
    )
    return body.model_dump(exclude_defaults=True)


def _field(error: FieldError) -> ProblemField:
    value = None if error.value is None else sayable(error.value)
    return ProblemField(field=sayable(error.field), value=value, message=sayable(error.message))


def sayable(text: str) -> str:
    """`text` as UTF-8 can carry it: JSON may name half of a surrogate pair, which no encoding has."""
    return text.encode("utf-8", "backslashreplace").decode()


def from_validation(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """pydantic's errors as fields: `body.rows[3].metrics.loss`, the value, what is right."""
    return [FieldError(path(error["loc"]), _shown(error), _said(error)) for error in errors]


def _said(error: Mapping[str, Any]) -> str:
    if isinstance(error.get("input"), bytes):  # left as it came: it was not announced as JSON
        return "must be JSON, sent with the header Content-Type: application/json"
    return str(error["msg"]).removeprefix("Value error, ")


def path(location: Sequence[str | int]) -> str:
    """A location as a person writes it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _shown(error: Mapping[str, Any]) -> str | None:
    if error["type"] in ("missing", "json_invalid"):
        return None
    value = error.get("input")
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def summary(fields: Sequence[FieldError]) -> str:
    """The first wrong fields in one sentence."""
    said = [f"{wrong.field}: {wrong.message}" for wrong in fields[:3]]
    more = f"; and {len(fields) - 3} more" if len(fields) > 3 else ""
    return "; ".join(said) + more
