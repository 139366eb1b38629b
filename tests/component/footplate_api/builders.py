"""Telemetry as a coordinator would send it, and a wait for what happens a moment later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

from footplate_api.app_context import AppContext
from footplate_api.coordinators import repository
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.db.database import Database
from footplate_api.metrics import repository as metrics
from footplate_api.metrics.telemetry import STORED
from footplate_api.serialization.schemas import LARGEST
from tests.support.review_server import FakeReviewer

Answer = TypeVar("Answer")
RUNS = "/v1/namespaces/research/runs"


def row(step: int, generation: tuple[int, int] = (1, 1), loss: float | str = 2.5) -> dict[str, Any]:
    """A metric row of `step` as JSON."""
    return {
        "generation": {"epoch": generation[0], "number": generation[1]},
        "metrics": {
            "step": step,
            "time": 1_790_000_000.0 + step,
            "loss": loss,
            "gradientNorm": 1.25,
            "learningRate": 0.001,
            "tokens": step * 1024,
            "tokensPerSecond": 512.0,
            "sampleDigest": f"{step:016x}",
        },
    }


def checkpoint(step: int, time: float = 1_790_000_000.0, uri: str = "/checkpoints/x") -> dict[str, Any]:
    """A durable checkpoint of `step` as JSON."""
    return {"step": step, "uri": f"{uri}/step-{step}.e1g1", "time": time, "bytes": 1 << 20}


def batch(
    uid: str, rows: Iterable[dict[str, Any]] = (), checkpoints: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A TelemetryBatch as JSON, of the coordinator whose epoch is the newest in `rows`."""
    sent = list(rows)
    epoch = max((known["generation"]["epoch"] for known in sent), default=1)
    return {"runUid": uid, "epoch": epoch, "rows": sent, "checkpoints": list(checkpoints)}


async def coordinator(
    context: AppContext,
    uid: str,
    name: str = "gpt",
    namespace: str = "research",
    epoch: int = LARGEST,
    pod_uid: str | None = None,
) -> dict[str, str]:
    """Headers of the requests of a run's coordinator, which the mirror has noted as such."""
    reviewer = context.reviewer
    assert isinstance(reviewer, FakeReviewer)
    pod_uid = pod_uid or f"pod-of-{uid}"
    token = f"token-of-{namespace}/{pod_uid}"
    if token not in reviewer.tokens:
        async with context.database.write() as session:
            await repository.store_coordinators(
                session, [CoordinatorPod(pod_uid, uid, namespace, name, epoch)]
            )
    return reviewer.add_pod(token, pod_uid, namespace)


async def eventually(
    probe: Callable[[], Awaitable[Answer]], good: Callable[[Answer], bool], seconds: float = 10.0
) -> Answer:
    """The first answer of `probe` that is `good`; fails with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await probe()
        if good(answer):
            return answer
        assert time.monotonic() < deadline, f"still {answer!r}"
        await asyncio.sleep(0.02)


async def newest_row(database: Database, uid: str) -> Any:
    """The last row of the newest generation of a run, whose attributes are the columns."""
    async with database.read() as session:
        places = await metrics.newest_positions(session, [uid])
        row = (await metrics.rows_at(session, places, STORED))[uid]
    return SimpleNamespace(**dict(zip(STORED, row, strict=True)))
