"""The journal where objects are written whole: few of them, and found again."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.folder import open_folder
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_files import rollout_folder
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import SampleRecord
from tests.support.s3 import s3_server


def sample(prompt: int) -> SampleRecord:
    zeros = np.zeros(3, dtype=np.float32)
    return SampleRecord(SampleKey(4, prompt, 0), zeros.astype(np.int32), zeros, zeros, EndReason.END)


def test_records_go_into_few_objects_and_all_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server("runs") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        folder = open_folder("s3://runs/journal")
        writing = Journal(folder, GenerationId(epoch=1, number=1), 0)
        writing.start_rollout(4, JournalKey("key"))
        for prompt in range(300):
            writing.add([sample(prompt)])
        writing.flush()
        writing.add([sample(300)])
        writing.close()

        found = journal.read_rollout(folder, 4, JournalKey("key"))
        assert sorted(key.prompt for key in found.samples) == list(range(301))
        assert 2 <= len(folder.list(rollout_folder(4))) < 60, "an object holds all that waited"

        journal.delete_obsolete_journals(folder, [6], 2)
        assert folder.list(rollout_folder(4)) == []
