"""FastAPI dependency of routes that change Kubernetes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from footplate_api.audit.audited_writer import AuditedWriter
from footplate_api.audit.auditor import Auditor
from footplate_api.dependencies import context
from footplate_api.http.error_handlers import request_id
from footplate_api.identity.rights import get_caller


def get_writer(request: Request) -> AuditedWriter:
    """Return a writer to Kubernetes for the caller of `request`."""
    given = context(request)
    auditor = Auditor(given.database, get_caller(request), request_id(request), given.now)
    return AuditedWriter(given.cluster, auditor)


Writing = Annotated[AuditedWriter, Depends(get_writer)]
