"""What was said before there were directives, for one release.

An operator of this release tells a coordinator of the one before, which a run
keeps until it is resumed, and the other way round while a release is taken
back: the directives go as four commands, and their echo as fields of the state.
Whoever drops this file drops the imports of it, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from footplate_contracts.directives import Directives

LIMITS: Final = "/v1/terms"
COMMAND: Final = "/v1/command"
SIZE: Final = "/v1/size"
HANG: Final = "/v1/hang"
# In this order: whatever may prolong the run is said before the command that may end it.
COMMANDS: Final = (LIMITS, COMMAND, SIZE, HANG)

Json = dict[str, Any]


def commands(directives: Directives) -> dict[str, Json]:
    """The body of each command that says a part of `directives`, by its path, in order."""
    parts = _parts(directives)
    return {path: parts[path] for path in COMMANDS if parts[path] is not None}


def commanded(directives: Directives, path: str, body: object) -> Directives:
    """`directives` after the command `path`; raises ValueError for a body that is none."""
    if not isinstance(body, dict):
        raise ValueError(f"the body is {body!r}; an object is right")
    told = directives.to_json()
    if path == SIZE:
        told.pop("minNodes", None)  # absent in the body: as many as nodes
    field = {HANG: "hang", LIMITS: "limits"}.get(path)
    return Directives.from_json(told | ({field: body} if field else body))


def environment(directives: Directives) -> dict[str, str]:
    """The variables of a coordinator's process that say the same."""
    parts = _parts(directives)
    told = {"FOOTPLATE_SIZE": parts[SIZE], "FOOTPLATE_TERMS": parts[LIMITS]}
    return {name: json.dumps(part, separators=(",", ":")) for name, part in told.items() if part is not None}


def state_fields(directives: Directives, refusals: Mapping[str, str]) -> Json:
    """The members of a coordinator's state that say the same."""
    parts = _parts(directives)
    refused = {"sizeRefused": refusals.get("nodes", ""), "termsRefused": refusals.get("limits", "")}
    echo = {"size": parts[SIZE], "hang": parts[HANG], "terms": parts[LIMITS]}
    return refused | {name: value for name, value in echo.items() if value is not None}


def read_state(state: Any) -> Any:
    """`state` of whatever release, with its directives; without where it says too little of them."""
    if (
        not isinstance(state, dict)
        or "directives" in state
        or not all(name in state for name in ("size", "hang", "terms"))
    ):
        return state
    refusals = {"nodes": state.get("sizeRefused", ""), "limits": state.get("termsRefused", "")}
    return {
        **state,
        "directives": {**state["size"], "hang": state["hang"], "limits": state["terms"]},
        "refusals": {field: text for field, text in refusals.items() if text},
    }


def _parts(directives: Directives) -> Json:
    told = directives.to_json()
    return {
        LIMITS: told.get("limits"),
        COMMAND: {"command": told["command"]},
        SIZE: {name: told[name] for name in ("nodes", "minNodes") if name in told},
        HANG: told.get("hang"),
    }
