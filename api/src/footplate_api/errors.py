"""Exceptions of the API; only error_handlers.py turns them into responses.

ApiError
├── Unauthenticated       401  missing or invalid token
├── Forbidden             403  missing right of the caller in Kubernetes
│   └── NotItsCoordinator 403  telemetry from another pod than the run's coordinator
├── TooManyRequests       429  of one caller
├── Invalid               422  impossible value in the request (also a ValueError)
├── RunNotFound           404
├── ProfileNotFound       404
├── NamespaceNotServed    404  a write in a namespace that this installation does not serve
├── PriceBookNotOwned     409  a price, where another installation of the cluster owns the price book
├── RunMismatch           409  a batch of another run than its sender's
├── ClusterRefused        4xx  refusal by the API server, with its status
├── InstallationLacksRights  502  the API server refuses this API's own account, for any caller
├── ClusterUnavailable    503
│   └── TooManyTokens     503  more unknown tokens at once than the API sends to the API server
├── IssuerUnavailable     503  the OIDC issuer does not return its keys
├── DatabaseUnavailable   503
│   └── DatabaseFull      503  reads still work
├── TooBusy               429  more telemetry at once than fits in memory
├── CostsBusy             503  more cost queries at once than the API computes
├── HistoriesBusy         503  more metric histories at once than the API builds
├── Starting              503  nothing is served before the database is migrated
└── HttpError             404, 405, 408, 413 … of the router itself
MigrationFailed                of the start alone: the process ends
ListExpired                    of the mirror alone: the API server has compacted a resource version
AnotherCluster                 ends the process: the database is not this cluster's (a ValueError)
BackupFailed                   of back-ups alone: none was made
RestoreRefused                 of a restore alone: the database is unchanged
UnusableDatabaseFile           a file is no intact database
InsufficientSpace              a volume has too little space for a copy
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from footplate_api.serialization.truncation import truncated_text


@dataclass(frozen=True)
class FieldError:
    """Wrong field of a request: its path, the value sent, and what would be right."""

    field: str
    value: str | None
    message: str


class ApiError(Exception):
    """Unexpected error; base class of all others.

    `detail` is a sentence for a person.
    """

    status: int = 500  # of the answer
    statuses: ClassVar[tuple[int, ...]] = ()  # all there can be, where not all errors of the class have one
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None  # seconds
    headers: Mapping[str, str] = {}  # of the answer, beside that

    def __init__(self, detail: str, fields: Sequence[FieldError] = (), status: int | None = None) -> None:
        """Set `status`, one of `statuses`, where not all errors of the class have the same."""
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self.status = status or self.status

    @classmethod
    def all_statuses(cls) -> tuple[int, ...]:
        """Return every HTTP status that an error of this class may have."""
        return cls.statuses or (cls.status,)


class Unauthenticated(ApiError):
    """Missing or invalid bearer token."""

    status = 401
    title = "Unauthenticated"
    headers = {"WWW-Authenticate": 'Bearer realm="footplate"'}

    @classmethod
    def refused(cls, detail: str) -> Unauthenticated:
        """Return the error for a token that was sent and is invalid (RFC 6750, section 3.1)."""
        error = cls(detail)
        error.headers = {"WWW-Authenticate": 'Bearer realm="footplate", error="invalid_token"'}
        return error


class Forbidden(ApiError):
    """Missing right of the caller, by Kubernetes' decision."""

    status = 403
    title = "Forbidden"


class NotItsCoordinator(Forbidden):
    """Telemetry of a run from another pod than the one that coordinates it, or did.

    The operator may not have reported yet that the caller is this pod: a true coordinator sends again.
    """

    title = "Not the run's coordinator"


class TooManyRequests(ApiError):
    """Rate limit of one caller exceeded; the API did not read this request."""

    status = 429
    title = "Too many requests"
    retry_after = 1

    @classmethod
    def wait(cls, detail: str, seconds: float) -> TooManyRequests:
        """Return the error for a caller who may send the next request in `seconds`."""
        error = cls(detail)
        error.retry_after = max(1, math.ceil(seconds))
        return error


class Invalid(ApiError, ValueError):
    """Invalid value in a field of the request."""

    status = 422
    title = "Invalid request"

    @classmethod
    def field(cls, field: str, value: object, message: str) -> Invalid:
        """Return the error for one `field` that had `value`; `message` tells what is right."""
        said = repr(truncated_text(value)) if isinstance(value, str) else truncated_text(value)
        return cls(f"{field}: {message}, not {said}", [FieldError(field, truncated_text(value), message)])


class RunNotFound(ApiError):
    """No run of this name, now or ever, in the namespace."""

    status = 404
    title = "Run not found"


class ProfileNotFound(ApiError):
    """No ComputeProfile of this name in Kubernetes."""

    status = 404
    title = "Profile not found"


class NamespaceNotServed(ApiError):
    """Namespace outside those that the installation serves."""

    status = 404
    title = "Namespace not served"


class PriceBookNotOwned(ApiError):
    """Price sent to an installation that does not own the price book: another one of the cluster does."""

    status = 409
    title = "Price book not owned"


class RunMismatch(ApiError):
    """Batch of another run than the one that its sender coordinates."""

    status = 409
    title = "Run mismatch"


class ClusterRefused(ApiError):
    """Refusal by the Kubernetes API server; its status and message are passed on."""

    statuses = (400, 403, 404, 409, 413, 422)
    title = "Refused by Kubernetes"


class InstallationLacksRights(ApiError):
    """Refusal of this API's own account by the Kubernetes API server; an administrator must grant rights.

    The API is a gateway that its upstream does not let in, hence 502; a retry does not help.
    """

    status = 502
    title = "Installation lacks rights"


class ClusterUnavailable(ApiError):
    """Kubernetes API server out of reach, or answering with a request to retry later."""

    status = 503
    title = "Kubernetes unavailable"
    retry_after = 5


class TooManyTokens(ClusterUnavailable):
    """More unknown tokens at once than the API asks Kubernetes to review."""

    title = "Too many unknown tokens"


class IssuerUnavailable(ApiError):
    """OIDC issuer that does not return its keys, so that no signature of a token can be verified."""

    status = 503
    title = "Issuer unavailable"
    retry_after = 5


class DatabaseUnavailable(ApiError):
    """Database out of reach; nothing of the request was stored."""

    status = 503
    title = "Database unavailable"
    retry_after = 5


class DatabaseFull(DatabaseUnavailable):
    """Full database volume: the API can read, and cannot store anything."""

    title = "Database full"
    retry_after = 30


class TooBusy(ApiError):
    """More telemetry than the API can store; it did not read this batch."""

    status = 429
    title = "Too much telemetry at once"
    retry_after = 2


class CostsBusy(ApiError):
    """More cost queries at once than the API computes."""

    status = 503
    title = "Too many questions about costs"
    retry_after = 5


class HistoriesBusy(ApiError):
    """More metric histories requested at once than the API builds."""

    status = 503
    title = "Too many questions for histories"
    retry_after = 5


class Starting(ApiError):
    """Process that still waits for its database, or for a migration of it."""

    status = 503
    title = "Starting"
    retry_after = 5


class HttpError(ApiError):
    """Request refused by the router: unknown path or method, no JSON, or a body too long or too slow."""

    statuses = (400, 404, 405, 408, 413)
    title = "Request not served"


class MigrationFailed(Exception):
    """Database without the schema that this release needs; the message is a sentence for a person."""


class ListExpired(Exception):
    """Expired continue token or resource version: list again from the start."""


class AnotherCluster(ValueError):
    """Database with the history of another cluster; a restart does not help."""


class BackupFailed(Exception):
    """Failed back-up; the message is a sentence for a person."""


class RestoreRefused(Exception):
    """Refused restore, with the database unchanged; the message tells what would be right."""


class UnusableDatabaseFile(Exception):
    """File that is damaged, in use, or no database of Footplate; the message names it."""


class InsufficientSpace(Exception):
    """Too little space for a copy; the message has the volume, both numbers and a remedy."""
