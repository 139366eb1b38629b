"""What a coordinator begins with: RunConfig as it was admitted, and the size that holds now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.names import Env
from footplate_contracts.reports import SizeCommand
from footplate_elastic.coordinator.__main__ import new_coordinator
from footplate_elastic.coordinator.config import from_environment
from footplate_elastic.coordinator.timing import Timing


def environment(directory: Path, world: dict[str, Any], size: str) -> dict[str, str]:
    outline = {
        "run": {"name": "run"},
        "world": {"processesPerNode": 2, **world},
        "parallelism": {"tensor": 4},
        "training": {"steps": 9, "globalBatchSize": 8},
    }
    path = directory / "run.json"
    path.write_text(json.dumps(outline))
    return {Env.RUN_CONFIG: str(path), Env.SIZE: size}


@pytest.mark.parametrize(
    ("world", "size", "nodes", "legal"),
    [
        pytest.param({"nodes": 4}, "", 4, (4,), id="as-admitted"),
        pytest.param({"nodes": 4, "minNodes": 1}, "", 4, (2, 4), id="as-admitted-with-bounds"),
        pytest.param({"nodes": 3}, "", 3, (3,), id="the-ranks-say-why-that-cannot-work"),
        pytest.param({"nodes": 4}, '{"nodes": 6, "minNodes": 4}', 6, (4, 6), id="resized"),
        pytest.param({"nodes": 4, "minNodes": 2}, '{"nodes": 4}', 4, (4,), id="without-bounds-any-more"),
        pytest.param({"nodes": 4}, '{"nodes": 5}', 4, (4,), id="cannot-train"),
    ],
)
def test_size(tmp_path: Path, world: dict[str, Any], size: str, nodes: int, legal: tuple[int, ...]) -> None:
    coordinator = new_coordinator(from_environment(environment(tmp_path, world, size)), Timing())
    assert (coordinator.state.nodes, coordinator.state.legal) == (nodes, legal)
    told = SizeCommand.model_validate_json(size) if size else None
    assert told in (None, coordinator.view().size)


@pytest.mark.parametrize("size", ["four", "{}", '{"nodes": 0}'])
def test_a_wrong_size_is_named(tmp_path: Path, size: str) -> None:
    with pytest.raises(ValueError, match=r'^FOOTPLATE_SIZE is .*; \{"nodes": 4, "minNodes": 2\} would be'):
        from_environment(environment(tmp_path, {"nodes": 2}, size))
