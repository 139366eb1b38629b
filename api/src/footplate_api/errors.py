"""Exceptions of the API; only error_handlers.py turns them into responses."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    """Unexpected error.

    Base class of all others; `detail` is a sentence for a person.
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

    def __init_subclass__(
        cls, status: int | None = None, title: str | None = None, retry_after: int | None = None
    ) -> None:
        """Set what a class states of its errors; the rest is as in its base class."""
        cls.status = status or cls.status
        cls.title = title or cls.title
        cls.retry_after = retry_after or cls.retry_after

    @classmethod
    def all_statuses(cls) -> tuple[int, ...]:
        """Return every HTTP status that an error of this class may have."""
        return cls.statuses or (cls.status,)


class Unauthenticated(ApiError, status=401, title="Unauthenticated"):
    """Missing or invalid bearer token."""

    headers = {"WWW-Authenticate": 'Bearer realm="footplate"'}

    @classmethod
    def refused(cls, detail: str) -> Unauthenticated:
        """Return the error for a token that was sent and is invalid (RFC 6750, section 3.1)."""
        error = cls(detail)
        error.headers = {"WWW-Authenticate": 'Bearer realm="footplate", error="invalid_token"'}
        return error


class Forbidden(ApiError, status=403, title="Forbidden"):
    """Missing right of the caller, by Kubernetes' decision."""


class NotItsCoordinator(Forbidden, title="Not the run's coordinator"):
    """Telemetry from a pod that neither is nor was the run's coordinator.

    The operator may not have reported yet that the caller is this pod: a true coordinator sends again.
    """


class TooManyRequests(ApiError, status=429, title="Too many requests", retry_after=1):
    """Rate limit of one caller exceeded; the API did not read this request."""

    @classmethod
    def wait(cls, detail: str, seconds: float) -> TooManyRequests:
        """Return the error for a caller who may send the next request in `seconds`."""
        error = cls(detail)
        error.retry_after = max(1, math.ceil(seconds))
        return error


class Invalid(ApiError, ValueError, status=422, title="Invalid request"):
    """Invalid value in a field of the request."""

    @classmethod
    def field(cls, field: str, value: object, message: str) -> Invalid:
        """Return the error for one `field` that had `value`; `message` tells what is right."""
        said = repr(truncated_text(value)) if isinstance(value, str) else truncated_text(value)
        return cls(f"{field}: {message}, not {said}", [FieldError(field, truncated_text(value), message)])


class RunNotFound(ApiError, status=404, title="Run not found"):
    """No run of this name, now or ever, in the namespace."""


class ProfileNotFound(ApiError, status=404, title="Profile not found"):
    """No ComputeProfile of this name in Kubernetes."""


class NamespaceNotServed(ApiError, status=404, title="Namespace not served"):
    """Namespace that the installation does not serve."""


class PriceBookNotOwned(ApiError, status=409, title="Price book not owned"):
    """Price sent to an installation that does not own the price book: another one of the cluster does."""


class RunMismatch(ApiError, status=409, title="Run mismatch"):
    """Batch of a run that its sender does not coordinate."""


class ClusterRefused(ApiError, title="Refused by Kubernetes"):
    """Refusal by the Kubernetes API server; its status and message are passed on."""

    statuses = (400, 403, 404, 409, 413, 422)


class InstallationLacksRights(ApiError, status=502, title="Installation lacks rights"):
    """Refusal of this API's own account by the Kubernetes API server; an administrator must grant rights.

    The API is a gateway that its upstream does not let in, hence 502; a retry does not help.
    """


class ClusterUnavailable(ApiError, status=503, title="Kubernetes unavailable", retry_after=5):
    """Kubernetes API server out of reach, or too busy to answer."""


class TooManyTokens(ClusterUnavailable, title="Too many unknown tokens"):
    """More unknown tokens at once than the API sends to Kubernetes for review."""


class IssuerUnavailable(ApiError, status=503, title="Issuer unavailable", retry_after=5):
    """OIDC issuer that does not return its keys, so that no signature of a token can be verified."""


class DatabaseUnavailable(ApiError, status=503, title="Database unavailable", retry_after=5):
    """Database out of reach; nothing of the request was stored."""


class DatabaseFull(DatabaseUnavailable, title="Database full", retry_after=30):
    """Full database volume: the API can read, and cannot store anything."""


class TooBusy(ApiError, status=429, title="Too much telemetry at once", retry_after=2):
    """More telemetry than the API can store; it did not read this batch."""


class CostsBusy(ApiError, status=503, title="Too many cost queries", retry_after=5):
    """More cost queries at once than the API computes."""


class HistoriesBusy(ApiError, status=503, title="Too many history queries", retry_after=5):
    """More metric histories requested at once than the API builds."""


class Starting(ApiError, status=503, title="Starting", retry_after=5):
    """Process that still waits for its database, or for a migration of it."""


class HttpError(ApiError, title="Request not served"):
    """Request refused by the router: unknown path or method, no JSON, or a body too long or too slow."""

    statuses = (400, 404, 405, 408, 413)


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


async def catch(action: Callable[[], Awaitable[object]]) -> Exception | None:
    """Run `action`; return its error, whatever it is."""
    try:
        await action()
    except Exception as error:  # noqa: BLE001 - the edge of a task: nobody would start it again
        return error
    return None
