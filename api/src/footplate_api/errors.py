"""One tree for whatever a caller may be told; only edge.py turns it into an answer.

ApiError
├── Invalid               422  the request says something that cannot be (also a ValueError)
├── RunNotFound           404
├── RunMismatch           409  a batch for another run than the path names
├── ClusterRefused        4xx  the API server's own word, its status kept
├── ClusterUnavailable    503
├── DatabaseUnavailable   503
└── HttpError             404, 405, 413 … of the router itself
ListExpired                    of the mirror alone: the API server forgot a resource version
AnotherCluster                 ends the process: the database is not this cluster's (a ValueError)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One wrong field: where it is, what was given, what would be right."""

    field: str
    value: str | None
    message: str


class ApiError(Exception):
    """Base of whatever reaches a caller; `detail` is a sentence for a person."""

    status: int = 500  # of the answer
    title: ClassVar[str] = "Internal error"
    retry_after: ClassVar[int | None] = None  # seconds

    def __init__(self, detail: str, fields: Sequence[FieldError] = (), status: int | None = None) -> None:
        """`status` where not all errors of the class have the same."""
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self.status = status or self.status


class Invalid(ApiError, ValueError):
    """A field of the request holds what it cannot hold."""

    status = 422
    title = "Invalid request"

    @classmethod
    def field(cls, field: str, value: object, message: str) -> Invalid:
        """The error for one `field` that had `value`; `message` says what is right."""
        return cls(f"{field}: {message}, not {value!r}", [FieldError(field, str(value), message)])


class RunNotFound(ApiError):
    """No run of this name was ever seen in the namespace."""

    status = 404
    title = "Run not found"


class RunMismatch(ApiError):
    """The batch's run is known under another name than the path's."""

    status = 409
    title = "Run mismatch"


class ClusterRefused(ApiError):
    """The Kubernetes API server said no; its status and message are passed on."""

    title = "Refused by Kubernetes"


class ClusterUnavailable(ApiError):
    """The Kubernetes API server could not be reached, or asked us to come back later."""

    status = 503
    title = "Kubernetes unavailable"
    retry_after = 5


class DatabaseUnavailable(ApiError):
    """The database could not be reached; nothing of the request was stored."""

    status = 503
    title = "Database unavailable"
    retry_after = 5


class HttpError(ApiError):
    """What the router itself refuses: no such path or method, no JSON, too much of it."""

    title = "Request not served"


class ListExpired(Exception):
    """A continue token or resource version is too old: list again from the start."""


class AnotherCluster(ValueError):
    """The database holds the history of another cluster; no restart mends that."""
