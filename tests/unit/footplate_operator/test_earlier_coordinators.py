"""Directives with a coordinator of an earlier release, which ignores what it does not know.

The later release is played by a document of the tests' own, with one limit more than this release has.
"""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import (
    LATER_DIRECTIVES,
    Directives,
    HangTimeouts,
    LaterDirective,
    Limits,
    Since,
    SpecField,
    later_directives,
)
from footplate_operator.trainingrun.directives import directives, find_unsent, length_refusal, live_fields
from footplate_operator.trainingrun.run import decode
from tests.support.operator_fakes import run_manifest


class LaterLimits(Limits):
    log_every_steps: Annotated[int | None, Since("0.2.0"), SpecField("training", "log_every_steps")] = None


class LaterBounds(HangTimeouts):
    tool_seconds: Annotated[float | None, Since("0.2.0")] = None


class LaterDirectives(Directives):
    limits: Annotated[LaterLimits | None, Since("0.1.0")] = None
    hang: Annotated[LaterBounds | None, Since("0.1.0")] = None
    racks: Annotated[dict[str, str] | None, Since("0.2.0")] = None


LATER = {
    "limits.log_every_steps": "training.logEverySteps",
    "hang.tool_seconds": "resilience.hang.toolSeconds",
    "racks": "",
}


def wanted(**later: Any) -> LaterDirectives:
    body = run_manifest()
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    document = directives(decode(body)).to_json()
    for path, value in later.items():
        section, _, name = path.partition("__")
        if name:
            document[section][name] = value
        else:
            document[section] = value
    return LaterDirectives.from_json(document)


def heard(told: Directives, *knows: str, **more: Any) -> CoordinatorState:
    """A coordinator's state after `told`; without `knows`, one of this release, which reads less."""
    read = told if knows else LaterDirectives.from_json(Directives.from_json(told.to_json()).to_json())
    state = CoordinatorState(version=1, epoch=1, state=RunState.TRAINING, knows=list(knows), **more)
    return state.model_copy(update={"directives": read})


def test_what_came_later_is_derived_from_the_fields() -> None:
    assert {directive.path: directive.spec for directive in later_directives(LaterDirectives)} == LATER
    assert later_directives(Directives) == LATER_DIRECTIVES
    assert all(isinstance(directive, LaterDirective) for directive in LATER_DIRECTIVES)


def test_a_field_that_states_no_release_is_refused() -> None:
    class Nameless(Limits):
        log_every_steps: int | None = Field(default=None)

    class Whole(Directives):
        limits: Annotated[Nameless | None, Since("0.1.0")] = None

    with pytest.raises(TypeError, match=r"Nameless\.log_every_steps: has no release"):
        later_directives(Whole)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"limits__logEverySteps": 5}, id="limit"),
        pytest.param({"hang__toolSeconds": 60.0}, id="bound"),
        pytest.param({"racks": {"node-1": "a"}}, id="directive"),
        pytest.param({"limits__logEverySteps": 5, "hang__toolSeconds": 60.0, "racks": {"n": "a"}}, id="all"),
    ],
)
def test_an_earlier_coordinator_is_told_once(later: dict[str, Any]) -> None:
    document = wanted(**later)
    assert find_unsent(document, heard(document)) is None
    assert find_unsent(document, heard(document, *LATER)) is None
    longer = document.limits.model_copy(update={"steps": 9}) if document.limits else None
    assert find_unsent(document.model_copy(update={"limits": longer}), heard(document)) is not None
    unsaid = heard(wanted()).directives
    assert (
        find_unsent(document, heard(document, *LATER).model_copy(update={"directives": unsaid})) is not None
    )


def test_what_an_earlier_coordinator_ignores_waits_for_a_resumption() -> None:
    document = wanted(limits__logEverySteps=5)
    fields = {field for field in LATER.values() if field}
    own, earlier = (live_fields(heard(document, *knows), LaterDirectives) for knows in (tuple(LATER), ()))
    assert own - earlier == fields
    assert fields <= live_fields(CoordinatorState.empty(), LaterDirectives)
    assert live_fields(heard(document)) == earlier


def test_what_an_earlier_coordinator_refuses_is_reported() -> None:
    document = wanted(limits__logEverySteps=5)
    state = heard(document, refusals={"limits": "step 9 is trained already"})
    assert length_refusal(document, state) == "step 9 is trained already"
