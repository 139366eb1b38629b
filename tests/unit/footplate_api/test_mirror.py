"""What a handful of watch events comes down to, and how long a failing mirror waits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from footplate_api.pipelines.following import retry_delay
from footplate_api.pipelines.mirror import changes
from footplate_api.ports import EventType, WatchEvent

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def event(kind: EventType, uid: str, version: int) -> WatchEvent:
    metadata = {
        "uid": uid,
        "namespace": "research",
        "name": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-11-25T10:00:00Z",
    }
    return WatchEvent(kind, {"metadata": metadata})


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([event(EventType.ADDED, "a", 1)], [("a", 1, None)], id="added"),
        pytest.param(
            [event(EventType.ADDED, "a", 1), event(EventType.MODIFIED, "a", 2)],
            [("a", 2, None)],
            id="last-wins",
        ),
        pytest.param(
            [event(EventType.MODIFIED, "a", 2), event(EventType.DELETED, "a", 3)],
            [("a", 3, NOW)],
            id="deleted",
        ),
        pytest.param(
            [event(EventType.DELETED, "a", 3), event(EventType.ADDED, "b", 4)],
            [("a", 3, NOW), ("b", 4, None)],
            id="two-runs",
        ),
        pytest.param([event(EventType.BOOKMARK, "", 9)], [], id="bookmark"),
    ],
)
def test_changes(events: list[WatchEvent], rows: list[tuple[str, int, datetime | None]]) -> None:
    made = [(row["uid"], row["resource_version"], row["deleted_at"]) for row in changes(events, NOW).runs]
    assert made == rows


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        pytest.param(1, 1.0, 0.5, id="first"),
        pytest.param(3, 1.0, 2.0, id="doubling"),
        pytest.param(100, 1.0, 15.0, id="at-most"),
        pytest.param(1, 0.0, 0.25, id="spread"),
    ],
)
def test_retry_delay(failures: int, chance: float, seconds: float) -> None:
    assert retry_delay(failures, chance) == seconds
