"""A zygote that is killed is followed by another one; an import that raises has to do so twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import Cause, ExitCode
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent.errors import RanksRefused
from footplate_elastic.agent.ranks import RankProcesses
from footplate_elastic.agent.zygote_client import Zygote
from footplate_elastic.agent.zygote_retries import TRIES
from tests.component.footplate_elastic.agent.gang import Gang

HERE = Path(__file__).parent
ENVIRONMENTS = {0: {"RANK": "0"}, 1: {"RANK": "1"}}


def killed_when_asked_to_fork(times: int) -> type[Zygote]:
    """A zygote that is ready, and killed before its next fork; only the first `times` of them are."""
    victims = iter(range(times))

    class Victim(Zygote):
        def fork(self, entry: str, environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
            self.wait_ready()
            if environment["RANK"] == "1" and next(victims, None) is not None:
                os.kill(self.pid, signal.SIGKILL)
            return super().fork(entry, environment, descriptors)

    return Victim


@dataclass
class Host:
    """Ranks of `disturbed_ranks`, the pauses before their zygotes, and what the kernel killed for memory."""

    folder: Path
    kind: type[Zygote] = Zygote
    pauses: list[float] = field(default_factory=list)
    oom_kills: int = 0
    made: list[RankProcesses] = field(default_factory=list)

    def ranks(self) -> RankProcesses:
        """With a zygote that imports already."""
        ranks = RankProcesses(
            "disturbed_ranks:waits",
            self.folder,
            self._zygote,
            self._zygote(),
            oom_kills=lambda: self.oom_kills,
            sleep=self.pauses.append,
        )
        self.made.append(ranks)
        return ranks

    def _zygote(self) -> Zygote:
        return self.kind(["disturbed_imports", "disturbed_ranks"], lambda: None)

    def goes_wrong(self, how: str, *tries: int) -> None:
        """The imports with these numbers do."""
        for number in tries:
            (self.folder / f"{how}-{number}").touch()

    @property
    def tries(self) -> int:
        """How many zygotes have begun to import."""
        return len(list(self.folder.glob("tried-*")))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    (tmp_path / "disturbed_ranks.py").write_text("import signal\ndef waits():\n    signal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(tmp_path)]))
    monkeypatch.setenv("TEST_IMPORTS", str(tmp_path))
    made = Host(tmp_path)
    yield made
    for ranks in made.made:
        ranks.close()


def test_a_zygote_that_is_killed_while_it_imports_is_followed_by_another_one(host: Host) -> None:
    host.goes_wrong("kill", 1, 2)
    ranks = host.ranks()
    assert ranks.prepare() is None
    assert len(ranks.start(ENVIRONMENTS)) == 2
    assert ranks.poll().failure is None
    assert host.pauses == [0.5, 1.0]


@pytest.mark.parametrize(
    ("for_memory", "cause"),
    [
        pytest.param(0, Cause.COMMUNICATION, id="by somebody"),
        pytest.param(1, Cause.OUT_OF_MEMORY, id="for memory"),
    ],
)
def test_one_that_is_always_killed_is_told_in_the_end_and_tried_again(
    host: Host, for_memory: int, cause: Cause
) -> None:
    host.goes_wrong("kill", *range(1, 2 * TRIES + 1))
    ranks = host.ranks()
    ranks.oom_kills = lambda: for_memory * host.tries
    failure = ranks.prepare()
    assert failure is not None and failure.cause is cause
    assert host.tries == TRIES

    assert ranks.start(ENVIRONMENTS) == {}
    told = ranks.poll().failure
    assert told is not None and told.cause is cause
    ranks.stop()

    assert len(ranks.start(ENVIRONMENTS)) == 2
    assert ranks.poll().failure is None


def test_an_import_that_raises_once_is_tried_again(host: Host) -> None:
    host.goes_wrong("raise", 1)
    ranks = host.ranks()
    assert ranks.prepare() is None
    assert (host.tries, host.pauses) == (2, [0.5])


def test_an_import_that_raises_again_is_refused_with_its_traceback(host: Host) -> None:
    host.goes_wrong("raise", 1, 2)
    with pytest.raises(RanksRefused) as refused:
        host.ranks().prepare()
    assert refused.value.failure.cause is Cause.IMAGE_OR_CONFIG
    assert "OSError: the file system was away at try 2" in refused.value.failure.message


def test_one_that_is_killed_between_its_imports_and_a_fork_is_followed_by_another_one(host: Host) -> None:
    host.kind = killed_when_asked_to_fork(2)
    ranks = host.ranks()
    assert ranks.prepare() is None
    pids = ranks.start(ENVIRONMENTS)
    assert [ranks.zygote.find_exit(pid) for pid in pids.values()] == [None, None]
    assert host.tries == 3


def zygote_of(gang: Gang, index: int) -> int:
    """Its pid."""
    agent = gang.agents[index].pid
    [zygote] = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return int(zygote)


@pytest.mark.long
def test_a_run_whose_zygotes_are_killed_at_any_time_goes_on(gang: Gang) -> None:
    gang.extra["TEST_IMPORTS"] = str(gang.directory)
    gang.warm = ["disturbed_imports", *gang.warm]
    (gang.directory / "kill-1").touch()
    agents = gang.start()
    gang.wait_for(lambda state: state.state is RunState.TRAINING and state.progress.step >= 7)
    os.kill(zygote_of(gang, 1), signal.SIGKILL)
    again = GenerationId(epoch=1, number=2)
    state = gang.wait_for(lambda state: state.state is RunState.TRAINING and state.generation == again)
    assert [(told.failure.cause, told.failure.reason) for told in state.failures] == [
        (Cause.COMMUNICATION, "RankKilled")
    ]
    assert [agent.poll() for agent in agents] == [None, None]


@pytest.mark.long
def test_an_agent_whose_zygotes_are_always_killed_says_so_and_stays(gang: Gang) -> None:
    gang.extra["TEST_IMPORTS"] = str(gang.directory)
    gang.warm = ["disturbed_imports"]
    for number in range(1, 100):
        (gang.directory / f"kill-{number}").touch()
    gang.start_coordinator()
    agent = gang.start_agent(0)
    state = gang.wait_for(lambda state: bool(state.failures))
    assert state.failures[0].failure.cause is Cause.COMMUNICATION
    assert agent.poll() is None


def test_an_agent_whose_imports_raise_is_refused_after_the_second_time(gang: Gang) -> None:
    gang.extra["TEST_IMPORTS"] = str(gang.directory)
    gang.warm = ["disturbed_imports"]
    for number in (1, 2, 3):
        (gang.directory / f"raise-{number}").touch()
    gang.start_coordinator()
    agent = gang.start_agent(0)
    assert agent.wait(60) == ExitCode.CONFIG
    state = gang.wait_for(lambda state: bool(state.failures))
    assert state.failures[0].failure.cause is Cause.IMAGE_OR_CONFIG
    assert "the file system was away at try 1" in gang.log("agent-0-0")
    assert not (gang.directory / "tried-3").exists()
