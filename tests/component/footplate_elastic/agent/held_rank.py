"""The trainer's own rank, which stops where a test wants it to.

Before step k it waits for data as long as a file `hold-k` is in the control
directory, and with `hold-end` before it ends, with `hold-loading` while it loads
and with `hold-checkpoint` while it saves; so a test may take its time there,
whatever the machine does. A file `hold-k.held` says that it is there, and with
which length it has been told to train; `hold-k.RANK` says it of each rank.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import CheckpointRecord, GenerationRow, RankPhase, RankReport
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_elastic.protocol.agent_client import AgentClient, open_client
from footplate_trainer.stages import offline_stages


def run() -> ExitCode:
    """As `stages.programs` does it."""
    config = RunConfig.from_json(json.loads(Path(os.environ[Env.RUN_CONFIG]).read_text()))
    agent = HeldAgent(open_client(os.environ), Path(os.environ["TEST_DIRECTORY"]))
    try:
        return offline_stages.main(config, agent)
    finally:
        agent.close()


class HeldAgent(AgentClient):
    """Passes everything on, and holds the rank where it reports that it waits for data."""

    def __init__(self, agent: AgentClient, folder: Path) -> None:
        self._agent = agent
        self._folder = folder

    def report(self, report: RankReport) -> None:
        self._agent.report(report)
        names = {RankPhase.DATA: f"hold-{report.step + 1}", RankPhase.FINISHED: "hold-end"}
        hold = self._folder / names.get(report.phase, f"hold-{report.phase}")
        while hold.exists():
            hold.with_suffix(f".{report.rank}").touch()
            told = self._agent.limits()
            hold.with_suffix(".held").write_text(str(told.steps if told else ""))
            time.sleep(0.01)

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        text = f"4 at step {row.step}"  # as `small_rank` shows it
        shown = LoggedSample(prompt=row.step, prompt_text="2 + 2 =", answer_text=text, tokens=2)
        self._agent.metrics(row, samples or [shown])

    def resend_metrics(self, rows: Sequence[GenerationRow]) -> None:
        self._agent.resend_metrics(rows)

    def get_unstored_rows(self) -> list[GenerationRow]:
        return self._agent.get_unstored_rows()

    def checkpoint(self, record: CheckpointRecord) -> None:
        self._agent.checkpoint(record)

    def grant(self, step: int) -> bool:
        return self._agent.grant(step)

    def command(self) -> Command:
        return self._agent.command()

    def limits(self) -> NumberedLimits | None:
        return self._agent.limits()

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        self._agent.listen(diagnosed)

    def close(self) -> None:
        self._agent.close()
