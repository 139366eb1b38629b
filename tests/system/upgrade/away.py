"""How long a control plane was away: sampled from outside, while Helm does what it does.

The operator is away from the last renewal of its Lease by one leader until the next leader takes it, as the
Lease itself tells to the microsecond. The API is away while no pod of it is ready, looked at ten times a
second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from demo.install import NAMESPACE
from demo.kube import DemoError, Kube
from tests.support.proxy import Proxy, proxied

LEASE: Final = "footplate-operator"
_LEASE: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}"
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/component%3Dapi"
_EVERY_SECONDS: Final = 0.1


@dataclass
class Away:
    """Seconds; 0 where nobody went away."""

    operator: float = 0.0
    api: float = 0.0
    leaders: list[str] = field(default_factory=list)  # that were seen, in their order


@dataclass
class _Seen:
    """What the sampler has found so far."""

    holder: str = ""
    renewed: float = 0.0
    not_ready_since: float | None = None
    away: Away = field(default_factory=Away)


@contextmanager
def watched(kube: Kube) -> Iterator[Away]:
    """Watches for the block; what it yields is complete after it."""
    seen, over = _Seen(), threading.Event()
    with proxied(kube) as ask:
        thread = threading.Thread(target=_sample, args=(ask, seen, over), name="away")
        thread.start()
        try:
            yield seen.away
        finally:
            over.set()
            thread.join()


def _sample(ask: Proxy, seen: _Seen, over: threading.Event) -> None:
    while not over.wait(_EVERY_SECONDS):
        try:
            _lease(ask.get(_LEASE), seen)
            _pods(ask.get(_PODS), seen)
        except DemoError:
            continue  # the API server is busy; the next look tells


def _lease(lease: Any, seen: _Seen) -> None:
    spec = (lease or {}).get("spec", {})
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime")
    if not renewed:
        return
    at = datetime.fromisoformat(renewed).timestamp()
    if holder and holder != seen.holder:
        if seen.holder:
            seen.away.operator = max(seen.away.operator, at - seen.renewed)
        seen.holder = holder
        seen.away.leaders.append(holder)
    seen.renewed = at


def _pods(pods: Any, seen: _Seen) -> None:
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in (pods or {}).get("items", ())
        if "deletionTimestamp" not in pod["metadata"]
        for condition in pod["status"].get("conditions", ())
    )
    now = time.monotonic()
    if ready:
        seen.not_ready_since = None
        return
    seen.not_ready_since = seen.not_ready_since or now
    seen.away.api = max(seen.away.api, now - seen.not_ready_since + _EVERY_SECONDS)
