"""The OpenAPI document: FastAPI's own, with the errors that this API really answers with."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from footplate_api.problems import MEDIA_TYPE

_REPLACED: Final = ("HTTPValidationError", "ValidationError")  # FastAPI's own, never sent here


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


def with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """`document` whose every operation answers errors with a Problem; changes it in place."""
    schemas = document["components"]["schemas"]
    for name in _REPLACED:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "Anything that went wrong",
                "content": {MEDIA_TYPE: reference},
            }
    return document
