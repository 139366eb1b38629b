"""A gang for each test, gone when the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.footplate_elastic.agent.gang import FakeApi, Gang


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Two agents with two ranks each, not yet started."""
    made = Gang(tmp_path)
    yield made
    made.close()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """An API that remembers what it was sent."""
    made = FakeApi()
    yield made
    made.close()
