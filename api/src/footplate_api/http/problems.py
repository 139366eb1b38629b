"""Converts every error into one `application/problem+json` (RFC 9457), as in OpenAPI; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, Field

from footplate_api.errors import ApiError, FieldError, Invalid
from footplate_api.serialization.truncation import SHOWN, truncate, truncated_text

MEDIA_TYPE: Final = "application/problem+json"
MOST_FIELDS: Final = 100  # wrong fields that one answer names: a batch of 5,000 rows may have 40,000
# Characters: names of fields may be the caller's own, and Kubernetes repeats what it was sent.
_LONGEST_PATH: Final = 300
_LONGEST_MESSAGE: Final = 2_000
_LONGEST_DETAIL: Final = 8_000


class ProblemField(BaseModel):
    """Wrong field of a request."""

    field: str = Field(examples=["body.rows[3].metrics.loss"])
    value: str | None = Field(None, description="value of the request, cut after 200 characters")
    message: str = Field(description="what the value must be")


class Problem(BaseModel):
    """Error in the form of RFC 9457."""

    type: str = Field(examples=["urn:footplate:problem:run-not-found"])
    title: str
    status: int
    detail: str = Field(description="human-readable explanation")
    requestId: str = Field(description="id of the request, as in the log and in the header X-Request-Id")
    errors: list[ProblemField] = Field([], max_length=MOST_FIELDS)


def problem_type(error: type[ApiError]) -> str:
    """Return the problem `type` of an error class, so that programs need not parse prose."""
    return "urn:footplate:problem:" + re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


def problem(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the response body for `error`, with at most MOST_FIELDS wrong fields."""
    body = Problem(
        type=problem_type(type(error)),
        title=error.title,
        status=error.status,
        detail=escape_surrogates(truncate(error.detail, _LONGEST_DETAIL)),
        requestId=request_id,
        errors=[_field(wrong) for wrong in error.fields[:MOST_FIELDS]],
    )
    return body.model_dump(exclude_defaults=True)


def _field(error: FieldError) -> ProblemField:
    value = None if error.value is None else escape_surrogates(truncate(error.value, SHOWN))
    return ProblemField(
        field=escape_surrogates(truncate(error.field, _LONGEST_PATH)),
        value=value,
        message=escape_surrogates(truncate(error.message, _LONGEST_MESSAGE)),
    )


def escape_surrogates(text: str) -> str:
    """Return `text` with lone surrogates escaped: JSON may contain them, and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def invalid(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """Combine pydantic's errors into one."""
    fields = from_validation(errors)
    return Invalid(summary(fields, len(errors)), fields)


def from_validation(errors: Iterable[Mapping[str, Any]]) -> list[FieldError]:
    """Convert the first pydantic errors to fields: `body.rows[3].metrics.loss`, its value, what is right."""
    first = islice(errors, MOST_FIELDS)
    return [FieldError(path(error["loc"]), _shown(error), _said(error)) for error in first]


def _said(error: Mapping[str, Any]) -> str:
    if isinstance(error.get("input"), bytes):  # left as it came: it was not announced as JSON
        return "must be JSON, sent with the header Content-Type: application/json"
    return str(error["msg"]).removeprefix("Value error, ")


def path(location: Sequence[str | int]) -> str:
    """Return a pydantic location as a readable path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return truncate(text.removeprefix("."), _LONGEST_PATH)


def _shown(error: Mapping[str, Any]) -> str | None:
    return None if error["type"] in ("missing", "json_invalid") else truncated_text(error.get("input"))


def summary(fields: Sequence[FieldError], total: int | None = None) -> str:
    """Return one sentence on the first wrong fields and on the number of others, of `total` if given."""
    said = [f"{wrong.field}: {wrong.message}" for wrong in fields[:3]]
    others = (len(fields) if total is None else total) - len(said)
    return "; ".join(said) + (f"; and {others:,} more" if others else "")
