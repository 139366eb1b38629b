"""Errors between the operator and its cluster, as one tree.

Callers decide by type: an object that exists already is no failure, one that is gone needs no deletion, and a
refused manifest is for the user to correct. Only the edges (`reconcile`, `__main__`) turn these into
conditions or exit codes.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base class of expected errors; `retry_after`: seconds that the refusing side requests to wait."""

    retry_after = 0.0


class LeadershipLost(OperatorError):
    """Loss of the Lease: another replica holds it, or ours expired before its renewal."""


class WatchSilent(OperatorError):
    """A watch on which the API server has been silent for too long."""


class CoordinatorUnreachable(OperatorError):
    """No answer from a run's coordinator; implies nothing about the run.

    `refused`: its address answered that nobody listens at the port.
    """

    def __init__(self, said: str, refused: bool = False) -> None:
        super().__init__(said)
        self.refused = refused


class ApiUnreachable(OperatorError):
    """No answer from the API, or an unreadable one; implies nothing about the API's data."""


class ApiRefused(ApiUnreachable):
    """The API rejects the operator's credentials or its access to the run; it does not pass by itself."""


class CertificateMissing(OperatorError):
    """A CA bundle that the owner of the API's certificate has not stored."""


class ClusterError(OperatorError):
    """A refusal by the API server, or no answer (status 0)."""

    def __init__(self, message: str, status: int = 0, reason: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.kind = ""  # of the object that was not created


class NotFound(ClusterError):
    """404: there is no such object."""


class AlreadyExists(ClusterError):
    """409 on create: the name is taken."""


class Conflict(ClusterError):
    """409 on anything else: a precondition does not hold."""


class NameTaken(Conflict):
    """409 on create: a child of a deleted object of the same name still has the name."""


class RequestForbidden(ClusterError):
    """403: no right, or a quota is exhausted."""


class ObjectInvalid(ClusterError):
    """422 or 400: the API server or one of its webhooks rejects the object as it is."""
