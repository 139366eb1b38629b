"""A gang for each test, gone when the test ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: `gang` is a helper beside the tests

from gang import Gang


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Two agents with two ranks each, not yet started."""
    made = Gang(tmp_path)
    yield made
    made.close()
