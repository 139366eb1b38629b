"""Which of the namespaces that had one name a run belongs to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from footplate_api.namespaces.lifetimes import NamespaceLifetime, owner_uid


def at(hour: int) -> datetime:
    return datetime(2026, 11, 25, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("known", "created", "uid"),
    [
        pytest.param([], 9, None, id="no-namespace-was-seen"),
        pytest.param([8], 9, "of-8", id="its-own"),
        pytest.param([9], 9, "of-9", id="of-the-same-second"),
        pytest.param([10], 9, None, id="older-than-any"),
        pytest.param([8, 10], 9, "of-8", id="of-the-predecessor"),
        pytest.param([8, 10], 11, "of-10", id="of-the-successor"),
    ],
)
def test_owner(known: list[int], created: int, uid: str | None) -> None:
    assert owner_uid([NamespaceLifetime(f"of-{hour}", at(hour)) for hour in known], at(created)) == uid
