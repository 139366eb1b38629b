"""Records of writes that callers may not do, of which each caller has some a minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from footplate_api.audit.auditor import Auditor
from footplate_api.db.database import Database
from footplate_api.errors import Forbidden
from footplate_api.identity.caller import Caller, Right
from footplate_api.identity.rate_limits import TokenBuckets
from footplate_api.instruments import ApiMetrics


@dataclass(frozen=True)
class RefusalRecorder:
    """Recorder of refused writes; one beyond a caller's rate is counted only."""

    database: Database
    rates: TokenBuckets
    metrics: ApiMetrics
    now: Callable[[], datetime]

    async def record(self, caller: Caller, right: Right, refusal: Forbidden, request_id: str) -> None:
        """Record the refusal; raises DatabaseUnavailable."""
        if self.rates.take(caller.username) == 0.0:
            auditor = Auditor(self.database, caller, request_id, self.now)
            await auditor.record_refusal(right, refusal)
        else:
            self.metrics.audit_refusals_left_out.inc()
