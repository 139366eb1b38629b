"""What the operator remembers of a run beside its status: nothing that may not be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from footplate_contracts.names import Reason
from footplate_operator.trainingrun.manifests.children import Credentials
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies.diagnosis import diagnose


@dataclass
class RunCache:
    """Of one run."""

    # Kept though the Secret is deleted: it comes back as it was, since pods have read it already.
    credentials: Credentials | None = None
    mounts: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # pod uid -> asked, told
    held: dict[str, tuple[datetime, Reason]] = field(default_factory=dict)  # pod uid -> since, by what

    def held_since(self, pod: PodView, now: datetime) -> datetime | None:
        """Since when `pod` waits for what it waits for; None for one that is merely on its way."""
        found = diagnose(pod)
        if found is None:
            self.held.pop(pod.uid, None)
            return None
        known = self.held.get(pod.uid)
        if known is None or known[1] is not found.reason:
            known = self.held[pod.uid] = (now, found.reason)
        return known[0]
