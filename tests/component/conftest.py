"""Data that the tests of trainer and agent share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import pack_tiny


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("data"))
