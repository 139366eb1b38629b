"""Waiting for kinds whose definitions were just made."""

from __future__ import annotations

import pytest

from footplate_operator.errors import ClusterError
from footplate_operator.runtime.kind_discovery import wait_until_served

VERSION = "footplate.dev/v1alpha1"
BUSY = ClusterError("HTTP 503")


class Answers:
    """An API server that answers in this order, and with the last one for ever."""

    def __init__(self, *answers: set[str] | ClusterError) -> None:
        self.answers = list(answers)

    async def list_served_kinds(self, api_version: str) -> frozenset[str]:
        """The next answer about VERSION."""
        assert api_version == VERSION
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ClusterError):
            raise answer
        return frozenset(answer)


async def test_it_waits_for_the_last_of_them() -> None:
    server = Answers(set(), BUSY, {"trainingruns"}, {"trainingruns", "computeprofiles", "others"})
    await wait_until_served(server, VERSION, ["trainingruns", "computeprofiles"], seconds=60, pause=0)
    assert len(server.answers) == 1, "it asked until the last answer"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(set(), "computeprofiles, trainingruns;", id="no-group"),
        pytest.param({"trainingruns"}, "computeprofiles;", id="one-is-missing"),
        pytest.param(BUSY, "computeprofiles, trainingruns: HTTP 503;", id="no-answer"),
    ],
)
async def test_it_says_which_are_not_served_in_time(answer: set[str] | ClusterError, said: str) -> None:
    with pytest.raises(ClusterError) as ended:
        await wait_until_served(
            Answers(answer), VERSION, ["trainingruns", "computeprofiles"], seconds=0, pause=0
        )
    assert str(ended.value).startswith(f"{VERSION}: not served after 0 s: {said}")
