"""Views of a run's children, with more than their existence for pods and revisions."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pydantic import ValidationError

from footplate_contracts.logs import fields
from footplate_operator.runtime.kinds import POD, REVISION, Json, Kind
from footplate_operator.runtime.objects import Child, view_child
from footplate_operator.trainingrun.edits import essence
from footplate_operator.trainingrun.gang.coordinator import sent_elsewhere
from footplate_operator.trainingrun.observed import view_pod
from footplate_operator.trainingrun.revision import AnyRevision, view_revision

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RevisionView(Child):
    """ControllerRevision with its frozen data."""

    revision: AnyRevision


def view_of(kind: Kind, body: Json, api_url: str) -> Child:
    """Return the view of a child; `api_url` is the current URL for telemetry."""
    if kind == POD:
        return sent_elsewhere(view_pod(body), api_url)
    child = replace(view_child(kind, body), essence=essence(kind, body))
    try:
        if kind == REVISION:
            return RevisionView(**vars(child), revision=view_revision(body))
    except (ValidationError, KeyError, ValueError) as error:
        _log.warning("unreadable", extra=fields(kind=kind.name, name=child.name, error=error))
    return child
