"""The ranks of an agent: forked together, watched, stopped within half a second."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from footplate_contracts.failures import FailureReport, is_secondary
from footplate_contracts.logs import log_fields
from footplate_contracts.names import Cause, ExitCode, LogFormat
from footplate_elastic.agent import timing
from footplate_elastic.agent.errors import RanksRefused, ZygoteFailed, ZygoteGone
from footplate_elastic.agent.failures import classify, first_failure, oom_kills
from footplate_elastic.agent.output import OutputForwarder
from footplate_elastic.agent.zygote_client import ProcessExit, Zygote
from footplate_elastic.agent.zygote_retries import ZygoteRetryPolicy
from footplate_elastic.protocol import error_file

_log = logging.getLogger(__name__)

_ENDED_WELL: Final = (int(ExitCode.SUCCESS), int(ExitCode.SUSPENDED))
_KILLED: Final = (-signal.SIGKILL, -signal.SIGTERM)


@dataclass(frozen=True)
class _Rank:
    pid: int
    rank: int
    error_file: Path


@dataclass(frozen=True)
class RankStatus:
    """State of the ranks: `failure` when one failed, `codes` when all have ended without a failure."""

    failure: FailureReport | None = None
    codes: tuple[int, ...] | None = None


@dataclass
class RankProcesses:
    """Rank processes; `make_zygote` starts a zygote where the old one is gone, in the main thread."""

    entry: str
    directory: Path
    make_zygote: Callable[[], Zygote]
    zygote: Zygote
    log_format: LogFormat = LogFormat.LOGFMT
    oom_kills: Callable[[], int] = oom_kills  # so far, of this container
    sleep: Callable[[float], None] = time.sleep
    _output: OutputForwarder = field(init=False)
    _ranks: list[_Rank] = field(default_factory=list)
    _not_started: FailureReport | None = None
    _zygote_is_spent: bool = False  # it has ended before it could fork, and that is known
    _killed_for_memory: int = field(init=False)

    def __post_init__(self) -> None:
        self._output = OutputForwarder(self.log_format)
        self._killed_for_memory = self.oom_kills()

    def start(self, environments: Mapping[int, Mapping[str, str]]) -> dict[int, int]:
        """Fork a rank for each local rank with its environment; return pids by local rank.

        Empty where no zygote comes through: the next look() returns why. Raises RanksRefused where the
        imports that all ranks share fail.
        """
        self._ranks = []
        self._not_started = self._until_it_works(lambda: self._fork(environments))
        if self._not_started is not None:
            return {}
        return {local_rank: rank.pid for local_rank, rank in zip(environments, self._ranks, strict=True)}

    def prepare(self) -> FailureReport | None:
        """Wait until ranks can be forked; return why not where no zygote comes through.

        Raises RanksRefused where the imports that all ranks share fail.
        """
        return self._until_it_works(lambda: self.zygote.wait_ready())

    def dump_stacks(self) -> None:
        """Have every rank write all its threads' stacks to its stderr, even if it hangs."""
        for rank in self._ranks:
            if self.zygote.find_exit(rank.pid) is None:
                self.zygote.kill(rank.pid, signal.SIGUSR1)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL half a second later, to all ranks that still run."""
        running = [rank.pid for rank in self._ranks if self.zygote.find_exit(rank.pid) is None]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in running:
                self.zygote.kill(pid, number)
            if self.zygote.wait_ended(running, timing.GRACE):
                break
        self._ranks = []

    def close(self) -> None:
        """End all ranks and the zygote, after their output was forwarded."""
        said = [rank.rank for rank in self._ranks]
        self.stop()
        self._output.finish(said, timing.LAST_LINES)
        self.zygote.close()

    def poll(self) -> RankStatus:
        """Return the ranks' state; wait for the last lines of failed ranks, and a moment for the cause."""
        if self._not_started is not None:
            return RankStatus(failure=self._not_started)
        ends = self._ends()
        codes = [end.code for end in ends.values() if end is not None]
        if any(code not in _ENDED_WELL for code in codes):
            failure = self._failure(ends)
            if is_secondary(failure):
                # A rank that is killed loses its connections a moment before the kernel tells its end.
                self.zygote.wait_ended([rank.pid for rank, end in ends.items() if end is None], timing.ECHO)
                failure = self._failure(self._ends())
            return RankStatus(failure=failure)
        if self._ranks and len(codes) == len(self._ranks):
            return RankStatus(codes=tuple(codes))
        return RankStatus()

    def _until_it_works(self, act: Callable[[], None]) -> FailureReport | None:
        """Run `act`, with a new zygote whenever one ends meanwhile; return why it was given up."""
        starts = ZygoteRetryPolicy()
        while True:
            if self._zygote_is_spent or (self.zygote.was_ready and not self.zygote.alive):
                self.zygote.close()
                self.zygote, self._zygote_is_spent = self.make_zygote(), False
                self._killed_for_memory = self.oom_kills()
            try:
                act()
            except (ZygoteGone, ZygoteFailed) as end:
                self._zygote_is_spent = True
                starts.record_end(end, self.oom_kills() > self._killed_for_memory)
                _log.warning(
                    "the zygote has ended before it could fork", extra=log_fields(exception=str(end))
                )
                if not starts.should_retry:
                    return _given_up(starts.failure(end, time.time()))
            else:
                return None
            self.sleep(starts.pause)

    def _fork(self, environments: Mapping[int, Mapping[str, str]]) -> None:
        self._killed_for_memory = self.oom_kills()
        self._ranks = []
        for local_rank, environment in environments.items():
            rank = int(environment["RANK"])
            path = self.directory / f"error-{local_rank}.json"
            path.unlink(missing_ok=True)
            descriptors = self._output.open(rank)
            told = {**environment, error_file.VARIABLE: str(path)}
            try:
                pid = self.zygote.fork(self.entry, told, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self._ranks.append(_Rank(pid, rank, path))

    def _ends(self) -> dict[_Rank, ProcessExit | None]:
        return {rank: self.zygote.find_exit(rank.pid) for rank in self._ranks}

    def _failure(self, ends: Mapping[_Rank, ProcessExit | None]) -> FailureReport:
        """Return the failure that stands for the ranks of `ends`, of which at least one failed."""
        self._output.finish(_unexplained(ends), timing.LAST_LINES)
        out_of_memory = self.oom_kills() > self._killed_for_memory
        reports = [
            classify(rank.rank, end, _said(rank, end), self._output.tail(rank.rank), out_of_memory)
            for rank, end in ends.items()
            if end is None or end.code not in _ENDED_WELL
        ]
        return first_failure([report for report in reports if report])


def _given_up(failure: FailureReport) -> FailureReport:
    """Return `failure`, where another try may succeed; raises RanksRefused where none will."""
    if failure.cause is Cause.IMAGE_OR_CONFIG:
        raise RanksRefused(failure)
    return failure


def _unexplained(ends: Mapping[_Rank, ProcessExit | None]) -> list[int]:
    """Return the failed ranks whose last lines are the only explanation."""
    return [
        rank.rank
        for rank, end in ends.items()
        if end is not None and end.code not in (*_ENDED_WELL, *_KILLED) and not rank.error_file.exists()
    ]


def _said(rank: _Rank, end: ProcessExit | None) -> FailureReport | None:
    """Return the report in the rank's error file, where it exists and is complete."""
    time = end.time if end else float("inf")
    return error_file.read(rank.error_file.read_text(), time) if rank.error_file.exists() else None
