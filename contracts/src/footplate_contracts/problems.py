"""The problems of the API by which programs act, as RFC 9457 has them.

A status alone may come from a proxy, or from the Kubernetes API server through the API.
"""

from __future__ import annotations

from enum import StrEnum

from footplate_contracts.base import WireMessage


class ProblemType(StrEnum):
    """Origin and kind of a problem."""

    INVALID = "urn:footplate:problem:invalid"  # something within the request cannot be taken
    RUN_MISMATCH = "urn:footplate:problem:run-mismatch"  # the name belongs to another run by now
    HTTP_ERROR = "urn:footplate:problem:http-error"  # the API's own edge: the status says what


class ProblemBody(WireMessage):
    """Body of an error response of the API."""

    type: str  # a ProblemType, or another one
