"""Rank and agent over the real socket: what is said arrives, and saying it never blocks."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Env
from footplate_contracts.reports import (
    CheckpointRecord,
    CheckpointRemoval,
    GenerationId,
    GenerationRow,
    RankPhase,
    RankReport,
)
from footplate_contracts.samples import LoggedSample, truncate_samples
from footplate_elastic.agent.rank_server import RankServer
from footplate_elastic.protocol.agent_client import AgentClient, open_client
from footplate_elastic.protocol.unstored_rows import RowKey
from tests.support.samples import longest, shown
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

SECONDS = 30.0
G0, G1 = GenerationId(epoch=1, number=0), GenerationId(epoch=1, number=1)


@dataclass
class Heard:
    """Remembers; grants even steps, once `gate` is open."""

    reports: list[RankReport] = field(default_factory=list)
    rows: list[tuple[GenerationId | None, int]] = field(default_factory=list)
    samples: dict[int, list[LoggedSample]] = field(default_factory=dict)  # by step
    checkpoints: list[int] = field(default_factory=list)
    removals: list[CheckpointRemoval] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def report(self, generation: GenerationId | None, report: RankReport) -> None:
        self.reports.append(report)

    def metrics(
        self, generation: GenerationId | None, row: StepMetrics, samples: Sequence[LoggedSample]
    ) -> None:
        self.samples[row.step] = list(samples)
        self.rows.append((generation, row.step))

    def checkpoint(self, generation: GenerationId | None, record: CheckpointRecord) -> None:
        self.checkpoints.append(record.step)

    def removal(self, generation: GenerationId | None, removal: CheckpointRemoval) -> None:
        self.removals.append(removal)

    def grant(self, generation: GenerationId, step: int) -> bool:
        assert self.gate.wait(SECONDS)
        return step % 2 == 0


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def server(heard: Heard) -> Iterator[RankServer]:
    made = RankServer(heard)
    yield made
    heard.gate.set()  # a grant that nobody waits for any more ends with its test
    made.close()


@pytest.fixture
def agent(server: RankServer) -> Iterator[AgentClient]:
    made = connect(server.path)
    yield made
    made.close()


def connect(path: Path, limits: NumberedLimits | None = None) -> AgentClient:
    told = {Env.LIMITS: limits.model_dump_json(by_alias=True)} if limits else {}
    return open_client({Env.RANK_LINK: str(path), Env.GENERATION: str(G1), **told})


def report(step: int) -> RankReport:
    return RankReport(rank=0, local_rank=0, step=step, phase=RankPhase.COMPUTE)


def eventually(agent: AgentClient, command: Command) -> bool:
    deadline = time.monotonic() + SECONDS
    while agent.command() is not command and time.monotonic() < deadline:
        time.sleep(0.005)
    return agent.command() is command


def numbered(number: int) -> NumberedLimits:
    return NumberedLimits(steps=9, every_steps=3, keep_last=2, epoch=1, number=number)


def test_live_limits_come_with_the_start_and_later_ones_while_it_runs(
    server: RankServer,
) -> None:
    server.send_limits(numbered(1))
    agent = connect(server.path, numbered(2))
    assert agent.limits() == numbered(2)
    for number in (4, 3):  # two threads of an agent may overtake each other
        server.send_limits(numbered(number))
    server.send_command(Command.CHECKPOINT_AND_EXIT)
    assert eventually(agent, Command.CHECKPOINT_AND_EXIT)
    assert agent.limits() == numbered(4)
    agent.close()


def test_everything_that_was_said_before_the_end_is_heard(
    agent: AgentClient, server: RankServer, heard: Heard
) -> None:
    for step in range(1, 1001):
        agent.metrics(row(step))
        agent.report(report(step))
    agent.checkpoint(CheckpointRecord(step=1000, uri="/c", time=1.0))
    gone = CheckpointRemoval(step=500, generation=G0, time=2.0)
    agent.removal(gone)
    agent.close()
    server.drain(SECONDS)
    assert heard.rows == [(G1, step) for step in range(1, 1001)]
    assert heard.reports[-1].step == 1000
    assert (heard.checkpoints, heard.removals) == ([1000], [gone])


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"{", id="no-json"),
        pytest.param(b"5", id="no-object"),
        pytest.param(b'{"grant": 1}', id="no-step"),
        pytest.param(b'{"metrics": {"step": 1}}', id="no-row"),
        pytest.param(json.dumps({"metrics": {}, "samples": [1]}).encode(), id="samples-of-no-row"),
        pytest.param(
            json.dumps({"checkpoint": {"step": 1, "uri": "x" * 5000, "time": 1.0}}).encode(), id="long-uri"
        ),
    ],
)
def test_what_a_rank_says_after_something_odd_is_heard(said: bytes, server: RankServer, heard: Heard) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rank:
        rank.connect(str(server.path))
        rank.send(json.dumps({"hello": str(G1)}).encode())
        rank.send(said)
        rank.send(json.dumps({"metrics": row(2).to_json()}).encode())
    while not heard.rows:
        time.sleep(0.005)
    assert (heard.rows, heard.checkpoints) == ([(G1, 2)], [])


def test_nothing_blocks_while_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "deaf"
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    deaf.bind(str(path))
    deaf.listen()
    agent = connect(path)
    for step in range(1, 5001):
        agent.report(report(step))
        agent.metrics(row(step))
    reader, _ = deaf.accept()
    threading.Thread(target=agent.close).start()
    packets = 0
    last = b""
    while packet := reader.recv(65536):
        packets += 1
        last = packet
    assert packets >= 5001  # every row, and some of the reports
    assert b'"step": 5000' in last
    reader.close()
    deaf.close()


def test_a_command_reaches_ranks_that_are_here_and_that_come_later(
    agent: AgentClient, server: RankServer
) -> None:
    assert agent.command() is Command.NONE
    server.send_command(Command.CHECKPOINT_AND_EXIT)
    assert eventually(agent, Command.CHECKPOINT_AND_EXIT)
    later = connect(str(server.path))
    assert eventually(later, Command.CHECKPOINT_AND_EXIT)
    later.close()


def test_a_grant_blocks_its_thread_and_no_other(agent: AgentClient, heard: Heard, server: RankServer) -> None:
    answers: dict[int, bool] = {}
    threads = [
        threading.Thread(target=lambda step=step: answers.update({step: agent.grant(step)}))
        for step in (4, 5)
    ]
    for thread in threads:
        thread.start()
    agent.metrics(row(1))
    while not heard.rows:
        time.sleep(0.005)
    assert answers == {}
    heard.gate.set()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == {4: True, 5: False}


def test_a_rank_knows_which_rows_nobody_has_said_are_stored(
    agent: AgentClient, server: RankServer, heard: Heard
) -> None:
    agent.resend_metrics([GenerationRow(generation=G0, metrics=row(step)) for step in (1, 2)])
    agent.metrics(row(3))
    agent.metrics(row(4))
    while len(heard.rows) < 4:
        time.sleep(0.005)
    assert heard.rows == [(G0, 1), (G0, 2), (G1, 3), (G1, 4)]
    assert [unstored.metrics.step for unstored in agent.get_unstored_rows()] == [1, 2, 3, 4]
    server.send_row_stored(RowKey(G1, 3))
    server.send_command(Command.CHECKPOINT_AND_EXIT)  # heard after that
    assert eventually(agent, Command.CHECKPOINT_AND_EXIT)
    assert agent.get_unstored_rows() == [GenerationRow(generation=G1, metrics=row(4))]


def test_samples_go_with_their_row_and_are_kept_with_it(
    agent: AgentClient, server: RankServer, heard: Heard
) -> None:
    again = GenerationRow(generation=G0, metrics=row(1), samples=[shown(7)])
    values = {f"reward-{number}-{'x' * 40}": 0.1234567890123 for number in range(64)}
    agent.resend_metrics([again])
    agent.metrics(row(2).model_copy(update={"values": values}), [longest(prompt) for prompt in range(20)])
    agent.metrics(row(3))
    while len(heard.rows) < 3:
        time.sleep(0.005)
    assert heard.rows == [(G0, 1), (G1, 2), (G1, 3)]
    assert heard.samples == {
        1: [shown(7)],
        2: truncate_samples([longest(prompt) for prompt in range(8)]),
        3: [],
    }
    assert [unstored.samples for unstored in agent.get_unstored_rows()] == [
        again.samples,
        heard.samples[2],
        None,
    ]


def test_without_an_agent_nothing_is_granted(agent: AgentClient, server: RankServer) -> None:
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(agent.grant(2)))
    asking.start()
    agent.close()
    asking.join(SECONDS)
    assert answers == [False]


def test_the_socket_is_private_and_removed(heard: Heard) -> None:
    server = RankServer(heard)
    assert server.directory.stat().st_mode & 0o077 == 0
    assert server.directory.stat().st_uid == os.getuid()
    server.close()
    assert not server.directory.exists()


def test_a_rank_waits_while_its_lease_is_over(server: RankServer, agent: AgentClient) -> None:
    agent.wait_for_lease()  # nobody has spoken of one
    _held(server, agent, Command.CHECKPOINT_AND_EXIT)


def test_so_does_one_that_connects_later(server: RankServer) -> None:
    server.lease(time.monotonic() - 1.0)
    late = connect(server.path)
    _held(server, late, Command.CHECKPOINT_AND_EXIT)
    server.lease(time.monotonic() - 1.0)
    _held(server, late, Command.DISCARD)
    server.lease(None)
    late.wait_for_lease()
    late.close()


def _held(server: RankServer, client: AgentClient, after: Command) -> None:
    server.lease(time.monotonic() - 1.0)
    server.send_command(after)
    assert eventually(client, after), "and so it has heard what was told before"
    passed = threading.Event()

    def step() -> None:
        client.wait_for_lease()
        passed.set()

    threading.Thread(target=step, daemon=True).start()
    assert not passed.wait(0.3)
    server.lease(time.monotonic() + SECONDS)
    assert passed.wait(SECONDS)
