"""What a coordinator begins with: RunConfig as it was admitted, and the directives that hold now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.directives import Directives, HangTimeouts, Limits
from footplate_contracts.environment import read_settings
from footplate_contracts.names import Env
from footplate_elastic.coordinator.__main__ import new_coordinator
from footplate_elastic.coordinator.config import CoordinatorConfig
from footplate_elastic.coordinator.timing import Timing

Tell = Callable[[Mapping[str, str]], None]


def environment(directory: Path, world: dict[str, Any], told: str = "") -> dict[str, str]:
    outline = {
        "run": {"name": "run"},
        "world": {"processesPerNode": 2, **world},
        "parallelism": {"tensor": 4},
        "training": {"steps": 9, "globalBatchSize": 8},
        "checkpoint": {"everySteps": 4, "keepLast": 2, "memory": {"everySteps": 1}},
        "hang": {"factor": 4.0, "floorSeconds": 30.0},
    }
    path = directory / "run.json"
    path.write_text(json.dumps(outline))
    return {Env.RUN_CONFIG: str(path), Env.DIRECTIVES: told}


@pytest.mark.parametrize(
    ("world", "directives", "nodes", "legal"),
    [
        pytest.param({"nodes": 4}, "", 4, (4,), id="as-admitted"),
        pytest.param({"nodes": 4, "minNodes": 1}, "", 4, (2, 4), id="as-admitted-with-bounds"),
        pytest.param({"nodes": 3}, "", 3, (3,), id="the-ranks-say-why-that-cannot-work"),
        pytest.param({"nodes": 4}, '{"nodes": 6, "minNodes": 4}', 6, (4, 6), id="resized"),
        pytest.param({"nodes": 4, "minNodes": 2}, '{"nodes": 4}', 4, (4,), id="without-bounds-any-more"),
        pytest.param({"nodes": 4}, '{"nodes": 5}', 4, (4,), id="cannot-train"),
    ],
)
def test_size(
    told: Tell, tmp_path: Path, world: dict[str, Any], directives: str, nodes: int, legal: tuple[int, ...]
) -> None:
    told(environment(tmp_path, world, directives))
    coordinator = new_coordinator(read_settings(CoordinatorConfig), Timing(), 0.0, lambda: 0.0)
    assert (coordinator.state.nodes, coordinator.state.legal) == (nodes, legal)
    wanted = Directives.model_validate_json(directives) if directives else coordinator.directives
    assert (coordinator.directives.nodes, coordinator.directives.min_nodes) == (
        wanted.nodes,
        wanted.min_nodes,
    )


AS_ADMITTED = Directives(
    nodes=2,
    hang=HangTimeouts(factor=4.0, floor_seconds=30.0),
    limits=Limits(steps=9, every_steps=4, keep_last=2),
)
PROLONGED = AS_ADMITTED.model_copy(update={"limits": Limits(steps=20, every_steps=5, keep_last=1)})


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        pytest.param("", AS_ADMITTED, id="as-admitted"),
        pytest.param('{"nodes": 2}', AS_ADMITTED, id="what-is-absent-is-as-admitted"),
        pytest.param(PROLONGED.model_dump_json(by_alias=True), PROLONGED, id="told"),
        pytest.param('{"nodes": 2, "learningRate": 1}', AS_ADMITTED, id="of-a-newer-operator"),
    ],
)
def test_a_coordinator_begins_with_the_directives_that_hold_now(
    told: Tell, tmp_path: Path, directives: str, expected: Directives
) -> None:
    told(environment(tmp_path, {"nodes": 2}, directives))
    coordinator = new_coordinator(read_settings(CoordinatorConfig), Timing(), 0.0, lambda: 0.0)
    assert coordinator.view().directives == expected
    assert coordinator.watchdog.bounds == expected.hang and expected.limits is not None
    assert coordinator.view().progress.total_steps == expected.limits.steps


@pytest.mark.parametrize(
    ("directives", "names"),
    [
        pytest.param("four", "JSON", id="no-json"),
        pytest.param("{}", "nodes", id="nothing"),
        pytest.param('{"nodes": 0}', "nodes: Input should be greater than or equal to 1", id="no-nodes"),
        pytest.param('{"nodes": 1, "limits": {"steps": 0}}', "limits.steps", id="no-steps"),
    ],
)
def test_wrong_directives_are_named(told: Tell, tmp_path: Path, directives: str, names: str) -> None:
    told(environment(tmp_path, {"nodes": 2}, directives))
    with pytest.raises(ValueError, match=rf"^FOOTPLATE_DIRECTIVES is .*{names}"):
        read_settings(CoordinatorConfig)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({Env.RUN_CONFIG: "/nowhere"}, "RUN_CONFIG is /nowhere, which cannot .*", id="run"),
        pytest.param({Env.COORDINATOR_PORT: "https"}, "PORT is 'https'; must be a whole number", id="port"),
        pytest.param({Env.LOG_FORMAT: "xml"}, "is 'xml'; must be one of logfmt, json, text", id="log-format"),
        pytest.param({Env.TLS_KEY_FILE: "/none"}, "FILE is '/none'; must be a file that exists", id="key"),
        pytest.param({Env.TLS_KEY_FILE: __file__}, ": set both or neither", id="no-certificate"),
    ],
)
def test_a_wrong_variable_is_named(told: Tell, tmp_path: Path, variables: dict[str, str], says: str) -> None:
    told(environment(tmp_path, {"nodes": 2}) | variables)
    with pytest.raises(ValueError, match=f"^FOOTPLATE_.*{says}$"):
        read_settings(CoordinatorConfig)
