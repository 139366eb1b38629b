"""The problems of the API by which programs act, as RFC 9457 has them.

A status alone may be the word of a proxy, or of the API server of Kubernetes, that the API passed on.
"""

from __future__ import annotations

from enum import StrEnum

from footplate_contracts.model import Report


class ProblemType(StrEnum):
    """Of whom and of what a problem is."""

    INVALID = "urn:footplate:problem:invalid"  # something within the request cannot be taken
    RUN_MISMATCH = "urn:footplate:problem:run-mismatch"  # the name belongs to another run by now
    HTTP_ERROR = "urn:footplate:problem:http-error"  # the API's own edge: the status says what


class Problem(Report):
    """The body of an answer that is an error of the API."""

    type: str  # a ProblemType, or another one
