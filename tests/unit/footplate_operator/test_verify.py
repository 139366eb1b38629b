"""What an installation may lack, and how it is said."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.verify import bundle_in, check_admission, describe_error, smallest_run, wait_for


@dataclass
class Asked:
    """A Kubernetes with these profiles, that refuses runs with `refusal`."""

    profiles: list[str] = field(default_factory=list)
    refusal: ClusterError | None = None
    runs: list[Json] = field(default_factory=list)

    async def find(self, kind: Kind, namespace: str) -> list[Json]:
        assert (kind, namespace) == (PROFILE, "")
        return [{"metadata": {"name": name}} for name in self.profiles]

    async def would_create(self, kind: Kind, body: Json) -> None:
        assert kind == TRAINING_RUN
        self.runs.append(body)
        if self.refusal is not None:
            raise self.refusal


def test_the_run_that_is_asked_for_is_one() -> None:
    """So a refusal is never about what the run says."""
    run = smallest_run("team-a", "local-cpu")
    assert TrainingRunSpec.model_validate(run["spec"]).compute.profile == "local-cpu"


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        pytest.param(Asked(["local-cpu", "h100"]), "", id="all-there"),
        pytest.param(Asked(), "there is no ComputeProfile", id="no-profile"),
        pytest.param(
            Asked(["local-cpu"], RequestForbidden("no params found for policy binding", 403)),
            "no run would be admitted in namespace team-a: no params found for policy binding",
            id="a-policy-that-is-not-ready",
        ),
    ],
)
async def test_whether_a_run_would_be_admitted(asked: Asked, missing: str) -> None:
    told = await check_admission(asked, "team-a")
    assert told.startswith(missing) and bool(told) == bool(missing)
    profiles = [run["spec"]["compute"]["profile"] for run in asked.runs]
    assert profiles == sorted(asked.profiles)[:1]


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        pytest.param(
            403, b'{"title": "Forbidden", "detail": "may not list"}', "HTTP 403: may not list", id="for-good"
        ),
        pytest.param(503, b'{"title": "Starting", "detail": "for 3 s"}', "HTTP 503: Starting", id="for-now"),
        pytest.param(502, b"<html>", "HTTP 502: <html>", id="of-somebody-else"),
        pytest.param(502, b"[]", "HTTP 502: []", id="no-object"),
    ],
)
def test_what_an_answer_says_is_wrong(status: int, text: bytes, said: str) -> None:
    assert describe_error(status, text) == said


async def test_it_waits_until_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """What has come is not asked for again, and what is missing is said once."""
    answers = {"one": ["", "gone"], "two": ["later", "later", "soon", ""]}

    async def next_of(name: str) -> str:
        return answers[name].pop(0)

    checks = {name: lambda name=name: next_of(name) for name in answers}
    with caplog.at_level("INFO", "footplate_operator.verify"):
        assert await asyncio.wait_for(wait_for(checks, seconds=60, pause=0), 20) == []
    assert answers == {"one": ["gone"], "two": []}
    assert [record.message for record in caplog.records] == ["one", "waiting", "waiting", "two"]


async def test_what_does_not_come_is_said() -> None:
    async def never() -> str:
        return "no answer"

    assert await wait_for({"the API": never}, seconds=0) == ["no answer"]


def test_who_vouches_may_come_later(tmp_path: Path) -> None:
    assert bundle_in(tmp_path / "ca.crt") == ""
    (tmp_path / "ca.crt").write_text("PEM")
    assert bundle_in(tmp_path / "ca.crt") == "PEM"
