"""What can go wrong between the operator and its cluster, as one tree.

Callers decide by type: an object that is there already is no failure, one that
is gone needs no deletion, and a refused manifest is the user's to mend. Only
the edges (`reconcile`, `__main__`) turn these into conditions or exit codes.
"""

from __future__ import annotations


class OperatorError(Exception):
    """The root of everything that was foreseen; `retry_after`: seconds that whoever refused asks to wait."""

    retry_after = 0.0


class LeadershipLost(OperatorError):
    """Another replica holds the Lease, or ours ran out unrenewed."""


class Blind(OperatorError):
    """The API server has said nothing on a watch for too long."""


class CoordinatorUnreachable(OperatorError):
    """No answer from a run's coordinator; says nothing about the run.

    `refused`: its address answered that nobody listens at the port.
    """

    def __init__(self, said: str, refused: bool = False) -> None:
        super().__init__(said)
        self.refused = refused


class ApiUnreachable(OperatorError):
    """No answer of the API, or none that can be read; says nothing about what it has."""


class ApiRefused(ApiUnreachable):
    """The API does not know the operator, or lets it not see the run: nothing that passes by itself."""


class CertificateMissing(OperatorError):
    """Whoever keeps the API's certificate has left out who vouches for it."""


class ClusterError(OperatorError):
    """The API server refused, or did not answer (status 0)."""

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


class Forbidden(ClusterError):
    """403: no right, or a quota is exhausted."""


class Invalid(ClusterError):
    """422 or 400: neither the API server nor a webhook that it asks accepts this as it is."""
