"""Views of a run and of its children, with more than their existence for pods and revisions."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta

from pydantic import ValidationError

from footplate_contracts.logs import log_fields
from footplate_operator.runtime.kinds import POD, REVISION, Json, Kind
from footplate_operator.runtime.objects import Child, view_child
from footplate_operator.trainingrun.drift import content_digest
from footplate_operator.trainingrun.gang.coordinator import with_api_change
from footplate_operator.trainingrun.observation import Observed, view_pod
from footplate_operator.trainingrun.revision import AnyRevision, MissingRevision, view_revision

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RevisionView(Child):
    """ControllerRevision with its frozen data."""

    revision: AnyRevision


@dataclass(frozen=True)
class RunView:
    """Input of a decision about a run; `revision` is None if the run could not be admitted."""

    observed: Observed
    revision: AnyRevision | MissingRevision | None
    unobserved: timedelta = timedelta(0)  # of the phase


def view_of(kind: Kind, body: Json, api_url: str) -> Child:
    """Return the view of a child; `api_url` is the current URL for telemetry."""
    if kind == POD:
        return with_api_change(view_pod(body), api_url)
    child = replace(view_child(kind, body), essence=content_digest(kind, body))
    try:
        if kind == REVISION:
            return RevisionView(**vars(child), revision=view_revision(body))
    except (ValidationError, KeyError, ValueError) as error:
        _log.warning("unreadable", extra=log_fields(kind=kind.name, name=child.name, error=error))
    return child
