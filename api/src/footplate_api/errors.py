"""One tree for whatever a caller may be told; only edge.py turns it into an answer.

ApiError
├── Unauthenticated       401  nobody's token, or none
├── Forbidden             403  Kubernetes does not let the caller do that
│   └── NotItsCoordinator 403  telemetry from somebody else than the run's coordinator
├── TooManyRequests       429  of one caller
├── Invalid               422  the request says something that cannot be (also a ValueError)
├── RunNotFound           404
├── ProfileNotFound       404
├── NamespaceNotServed    404  a write in a namespace that this installation is not for
├── BookKeptElsewhere     409  a price, where another installation of the cluster keeps the book
├── RunMismatch           409  a batch of another run than its sender's
├── ClusterRefused        4xx  the API server's own word, its status kept
├── InstallationLacksRights  502  the API server refuses this API's own account, whoever the caller is
├── ClusterUnavailable    503
│   └── TooManyTokens     503  more unknown tokens at once than the API server is asked about
├── IssuerUnavailable     503  the OIDC issuer does not give its keys
├── DatabaseUnavailable   503
│   └── DatabaseFull      503  reads go on
├── TooBusy               429  more telemetry at once than there is room for
├── CostsBusy             503  more questions about costs at once than are answered
├── HistoriesBusy         503  more metric histories are asked for at once than are put together
├── Starting              503  nothing is served before the database is migrated
└── HttpError             404, 405, 408, 413 … of the router itself
MigrationFailed                of the start alone: the process ends
ListExpired                    of the mirror alone: the API server forgot a resource version
AnotherCluster                 ends the process: the database is not this cluster's (a ValueError)
BackupFailed                   of back-ups alone: none was made
RestoreRefused                 of a restore alone: the database is as it was
Unsound                        a file is no whole database
NoRoom                         a volume has not the room for a copy
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from footplate_api.brief import brief


@dataclass(frozen=True)
class FieldError:
    """One wrong field: where it is, what was given, what would be right."""

    field: str
    value: str | None
    message: str


class ApiError(Exception):
    """Something failed that no other class names; the base of them all.

    `detail` is a sentence for a person.
    """

    status: int = 500  # of the answer
    statuses: ClassVar[tuple[int, ...]] = ()  # all there can be, where not all errors of the class have one
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None  # seconds
    headers: Mapping[str, str] = {}  # of the answer, beside that

    def __init__(self, detail: str, fields: Sequence[FieldError] = (), status: int | None = None) -> None:
        """`status` where not all errors of the class have the same; one of `statuses`."""
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self.status = status or self.status

    @classmethod
    def answered(cls) -> tuple[int, ...]:
        """Every status with which an error of this class is answered."""
        return cls.statuses or (cls.status,)


class Unauthenticated(ApiError):
    """The request carries no bearer token that is valid here."""

    status = 401
    title = "Unauthenticated"
    headers = {"WWW-Authenticate": 'Bearer realm="footplate"'}

    @classmethod
    def refused(cls, detail: str) -> Unauthenticated:
        """The error for a token that was sent, and is not taken (RFC 6750, section 3.1)."""
        error = cls(detail)
        error.headers = {"WWW-Authenticate": 'Bearer realm="footplate", error="invalid_token"'}
        return error


class Forbidden(ApiError):
    """Kubernetes does not grant the caller the right that this takes."""

    status = 403
    title = "Forbidden"


class NotItsCoordinator(Forbidden):
    """Telemetry of a run is taken from the pod that coordinates it, or did.

    The operator may not have said yet that the caller is this pod: whoever is, sends again.
    """

    title = "Not the run's coordinator"


class TooManyRequests(ApiError):
    """The caller sends more requests than one may; this one was not looked at."""

    status = 429
    title = "Too many requests"
    retry_after = 1

    @classmethod
    def wait(cls, detail: str, seconds: float) -> TooManyRequests:
        """The error for a caller whose next request is taken in `seconds`."""
        error = cls(detail)
        error.retry_after = max(1, math.ceil(seconds))
        return error


class Invalid(ApiError, ValueError):
    """A field of the request holds what it cannot hold."""

    status = 422
    title = "Invalid request"

    @classmethod
    def field(cls, field: str, value: object, message: str) -> Invalid:
        """The error for one `field` that had `value`; `message` says what is right."""
        said = repr(brief(value)) if isinstance(value, str) else brief(value)
        return cls(f"{field}: {message}, not {said}", [FieldError(field, brief(value), message)])


class RunNotFound(ApiError):
    """No run of this name was ever seen in the namespace."""

    status = 404
    title = "Run not found"


class ProfileNotFound(ApiError):
    """Kubernetes shows no ComputeProfile of this name."""

    status = 404
    title = "Profile not found"


class NamespaceNotServed(ApiError):
    """The installation serves some namespaces, and this is none of them."""

    status = 404
    title = "Namespace not served"


class BookKeptElsewhere(ApiError):
    """Of several installations in a cluster one keeps the price book, and this is another."""

    status = 409
    title = "Price book kept elsewhere"


class RunMismatch(ApiError):
    """The batch is of another run than the one that its sender coordinates."""

    status = 409
    title = "Run mismatch"


class ClusterRefused(ApiError):
    """The Kubernetes API server said no; its status and message are passed on."""

    statuses = (400, 403, 404, 409, 413, 422)
    title = "Refused by Kubernetes"


class InstallationLacksRights(ApiError):
    """The Kubernetes API server refuses this API's own account: whoever installed it has to mend that.

    A gateway that its upstream does not let in, hence 502; asking again soon helps nobody.
    """

    status = 502
    title = "Installation lacks rights"


class ClusterUnavailable(ApiError):
    """The Kubernetes API server could not be reached, or asked us to come back later."""

    status = 503
    title = "Kubernetes unavailable"
    retry_after = 5


class TooManyTokens(ClusterUnavailable):
    """More tokens came at once that nobody knows here than Kubernetes is asked about."""

    title = "Too many unknown tokens"


class IssuerUnavailable(ApiError):
    """The OIDC issuer does not give its keys, so that nobody can tell whether it signed a token."""

    status = 503
    title = "Issuer unavailable"
    retry_after = 5


class DatabaseUnavailable(ApiError):
    """The database could not be reached; nothing of the request was stored."""

    status = 503
    title = "Database unavailable"
    retry_after = 5


class DatabaseFull(DatabaseUnavailable):
    """The volume of the database is full: it can be read, and nothing can be stored."""

    title = "Database full"
    retry_after = 30


class TooBusy(ApiError):
    """More telemetry comes than can be stored; what was sent was not looked at."""

    status = 429
    title = "Too much telemetry at once"
    retry_after = 2


class CostsBusy(ApiError):
    """More costs are asked for at once than are reckoned."""

    status = 503
    title = "Too many questions about costs"
    retry_after = 5


class HistoriesBusy(ApiError):
    """More metric histories are asked for at once than are put together."""

    status = 503
    title = "Too many questions for histories"
    retry_after = 5


class Starting(ApiError):
    """The process waits for its database, or for a migration of it."""

    status = 503
    title = "Starting"
    retry_after = 5


class HttpError(ApiError):
    """What the router itself refuses: no such path or method, no JSON, too much of it, or too slowly."""

    statuses = (400, 404, 405, 408, 413)
    title = "Request not served"


class MigrationFailed(Exception):
    """The database has not the schema that this release needs; the message is a sentence for a person."""


class ListExpired(Exception):
    """A continue token or resource version is too old: list again from the start."""


class AnotherCluster(ValueError):
    """The database holds the history of another cluster; no restart mends that."""


class BackupFailed(Exception):
    """No back-up was made; the message is a sentence for a person."""


class RestoreRefused(Exception):
    """The database is as it was; the message says what would be right."""


class Unsound(Exception):
    """A file is damaged, in use, or no database of Footplate; the message names it."""


class NoRoom(Exception):
    """A copy does not fit; the message has the volume, both numbers and a remedy."""
