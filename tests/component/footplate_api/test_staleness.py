"""While Kubernetes is away, reads go on and say since when they may be old."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_api.http.staleness import HEADER
from footplate_api.instruments import RUNS as KIND
from footplate_api.instruments import SILENT_SECONDS, MirrorHealth
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api

THEN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def health(**changed: object) -> MirrorHealth:
    return replace(MirrorHealth(troubles={}, heard_at=THEN), **changed)


@pytest.mark.parametrize(
    ("mirror", "seconds", "says"),
    [
        pytest.param(health(), SILENT_SECONDS, None, id="heard-of"),
        pytest.param(health(), SILENT_SECONDS + 1, THEN.isoformat(), id="silent"),
        pytest.param(health(troubles={KIND: "away"}), 1, THEN.isoformat(), id="away"),
        pytest.param(health(troubles={"Namespaces": "away"}), 1, None, id="another-kind"),
        pytest.param(health(heard_at=None), 1, "unknown", id="not-yet"),
    ],
)
def test_since_when_it_may_be_old(mirror: MirrorHealth, seconds: float, says: str | None) -> None:
    assert mirror.stale_since(THEN + timedelta(seconds=seconds)) == says


async def test_reads_go_on_and_say_so_until_kubernetes_is_back(api: Api) -> None:
    paths = [RUNS, *(f"{RUNS}/gpt{part}" for part in ("", "/metrics", "/attempts", "/checkpoints"))]
    await api.mirrored(await api.cluster.put("research", "gpt"))

    async def said() -> list[str | None]:
        answers = [await api.client.get(path) for path in paths]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.headers.get(HEADER) for answer in answers]

    await eventually(said, lambda headers: not any(headers))
    api.cluster.available = False
    found = await eventually(said, all)
    assert all(datetime.fromisoformat(since) <= datetime.now(UTC) for since in found if since)
    assert HEADER not in (await api.client.get("/readyz")).headers
    api.cluster.available = True
    await eventually(said, lambda headers: not any(headers))
