"""The journal of a rollout: what is found again, whoever wrote it and however it ended."""

from __future__ import annotations

import errno
import os
import random
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.errors import StorageError
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout import journal, journal_files, journal_records
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_files import JournalFile, find_obsolete_rollouts, rollout_folder
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import (
    RewardsRecord,
    RolloutState,
    SampleRecord,
    ScoresRecord,
    merge_records,
)

KEY = JournalKey("digest of what draws")
ANOTHER = JournalKey("digest of what draws others")
FIRST, SECOND = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


def sample(prompt: int, sibling: int = 0, tokens: int = 3, first: int = 7, step: int = 4) -> SampleRecord:
    chances = -np.arange(1, tokens + 1, dtype=np.float32) / 3
    drawn = np.arange(first, first + tokens, dtype=np.int32)
    return SampleRecord(SampleKey(step, prompt, sibling), drawn, chances, chances * 2, EndReason.LENGTH)


def rewarded(of: SampleRecord, **values: float | str) -> RewardsRecord:
    return RewardsRecord(of.key, of.mark, values)


def scored(of: SampleRecord) -> ScoresRecord:
    return ScoresRecord(of.key, of.mark, "policy", of.full * 3)


def opened(folder: Path, generation: GenerationId = FIRST, rank: int = 0, key: JournalKey = KEY) -> Journal:
    made = Journal(LocalFolder(str(folder)), generation, rank)
    made.start_rollout(4, key)
    return made


def found(folder: Path, key: JournalKey = KEY) -> RolloutState:
    return journal.read_rollout(LocalFolder(str(folder)), 4, key)


# -- records --------------------------------------------------------------------------------------


def test_records_come_back_bit_for_bit() -> None:
    drawn = sample(1 << 40, 3, tokens=5)
    all_kinds = [drawn, rewarded(drawn, right=0.1, late="it slept"), scored(drawn), sample(2, tokens=0)]
    content = journal_records.header(KEY) + journal_records.encode_records(all_kinds)
    back, whole = journal_records.decode_records(content, KEY)
    assert whole and len(back) == 4
    assert back[0].key == drawn.key and back[0].reason is EndReason.LENGTH and back[0].mark == drawn.mark
    for column in ("tokens", "sampled", "full"):
        assert getattr(back[0], column).tobytes() == getattr(drawn, column).tobytes()
    assert back[1] == all_kinds[1]
    assert back[2].name == "policy" and back[2].values.tobytes() == scored(drawn).values.tobytes()
    assert len(back[3].tokens) == 0


def test_what_is_torn_anywhere_ends_what_is_read() -> None:
    drawn = [sample(number) for number in range(3)]
    header = journal_records.header(KEY)
    ends = [len(header + journal_records.encode_records(drawn[:count])) for count in range(4)]
    content = header + journal_records.encode_records(drawn)
    for size in range(len(content)):
        back, whole = journal_records.decode_records(content[:size], KEY)
        assert len(back) == sum(end <= size for end in ends[1:])
        assert whole == (size in (0, *ends))


def test_a_flipped_bit_ends_what_is_read() -> None:
    drawn, chance = [sample(number) for number in range(3)], random.Random(3)
    content = journal_records.header(KEY) + journal_records.encode_records(drawn)
    for _ in range(200):
        place = chance.randrange(len(content))
        broken = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
        back, whole = journal_records.decode_records(broken, KEY)
        assert not whole
        assert journal_records.encode_records(back) == journal_records.encode_records(drawn[: len(back)])


def test_nothing_counts_that_another_run_has_written() -> None:
    content = journal_records.header(ANOTHER) + journal_records.encode_records([sample(0)])
    assert journal_records.decode_records(content, KEY) == ([], False)


def test_of_what_others_have_said_nothing_counts_and_the_answers_stay() -> None:
    """A function that is defined anew is asked anew; a model of other weights likewise."""
    drawn = sample(0)
    written = replace(KEY, said={"rewards/right": "a", "rewards/short": "b", "scores/policy": "c"})
    told = [drawn, rewarded(drawn, right=1.0), rewarded(drawn, right=1.0, short=0.5), scored(drawn)]
    content = journal_records.header(written) + journal_records.encode_records(told)
    again = replace(written, said={**written.said, "rewards/right": "z"})
    back, whole = journal_records.decode_records(content, again)
    assert whole and back[1:-1] == [rewarded(drawn, short=0.5)] and back[-1].name == "policy"
    back, _ = journal_records.decode_records(content, replace(written, said={"scores/policy": "d"}))
    assert [type(record) for record in back] == [SampleRecord], "what is asked no more is gone, too"
    assert len(journal_records.decode_records(content, written)[0]) == 4


# -- several generations ----------------------------------------------------------------------------


def test_of_copies_that_differ_that_of_the_newest_generation_counts_with_what_was_said_of_it() -> None:
    """As when one was frozen, and wakes up after another has begun in its place."""
    old, new = sample(0, first=7), sample(0, first=9)
    kept = merge_records(
        {
            SECOND: [new, rewarded(new, right=1.0)],
            FIRST: [old, rewarded(old, right=0.0), scored(old)],
        }
    )
    assert kept.samples[old.key].mark == new.mark
    assert (kept.rewards, kept.scores) == ({old.key: {"right": 1.0}}, {})


def test_rewards_add_up_by_name_over_generations() -> None:
    drawn = sample(0)
    kept = merge_records({FIRST: [drawn, rewarded(drawn, right=1.0)], SECOND: [rewarded(drawn, short=0.5)]})
    assert kept.rewards == {drawn.key: {"right": 1.0, "short": 0.5}}


# -- files --------------------------------------------------------------------------------------------


def test_what_was_added_is_durable_and_is_found_whatever_ranks_wrote_it(tmp_path: Path) -> None:
    for rank in range(3):
        writing = opened(tmp_path, rank=rank)
        writing.add([sample(rank), sample(rank + 10)])
        writing.close()
    assert sorted(key.prompt for key in found(tmp_path).samples) == [0, 1, 2, 10, 11, 12]
    assert found(tmp_path, key=ANOTHER).samples == {}


def test_what_is_torn_is_left_alone_by_the_next_process_of_that_name(tmp_path: Path) -> None:
    """Without an agent every start is of the same generation."""
    writing = opened(tmp_path)
    writing.add([sample(0)])
    writing.close()
    (file,) = (tmp_path / rollout_folder(4)).iterdir()
    file.write_bytes(file.read_bytes() + b"\x01\x02")
    again = opened(tmp_path)
    again.add([sample(1)])
    again.close()
    assert sorted(key.prompt for key in found(tmp_path).samples) == [0, 1]


def test_each_rollout_has_a_folder_and_goes_when_none_needs_it(tmp_path: Path) -> None:
    writing, folder = opened(tmp_path), LocalFolder(str(tmp_path))
    for step in (4, 6, 8):
        writing.start_rollout(step, KEY)
        writing.add([sample(0, step=step)])
    writing.close()
    journal.delete_obsolete_journals(folder, [5, 6], 2)
    assert sorted(path.name for path in (tmp_path / journal_files.FOLDER).iterdir()) == [
        "0000000004",
        "0000000006",
        "0000000008",
    ]
    journal.delete_obsolete_journals(folder, [8], 2)
    assert [path.name for path in (tmp_path / journal_files.FOLDER).iterdir()] == ["0000000008"]


@pytest.mark.parametrize(
    ("begun", "standing", "over"),
    [
        pytest.param([0], [], [], id="nothing-durable"),
        pytest.param([0, 4], [4], [0], id="all-of-it-is-within"),
        pytest.param([0, 4], [3], [], id="in-the-middle"),
        pytest.param([0, 4], [2, 4], [], id="an-older-one-stands-within"),
        pytest.param([0, 4, 8], [9], [0, 4], id="several"),
    ],
)
def test_which_rollouts_are_over(begun: list[int], standing: list[int], over: list[int]) -> None:
    assert find_obsolete_rollouts(begun, standing, 4) == over


@pytest.mark.parametrize(
    "name", ["rollouts/4/e1g1-r0.records", "step-4.committed", "rollouts/0000000004/.e1g1-r0-0.records.x"]
)
def test_other_names_are_no_journal(name: str) -> None:
    assert JournalFile.parse(name) is None


class Full(LocalFolder):
    """A disk that is full until there is `room`."""

    room = False

    def list(self, prefix: str = "") -> Any:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().list(prefix)


def test_what_cannot_be_written_is_tried_again_and_told_in_the_end(tmp_path: Path) -> None:
    folder = Full(str(tmp_path))
    writing = Journal(folder, FIRST, 0)
    writing.start_rollout(4, KEY)
    writing.add([sample(0)])
    with pytest.raises(StorageError, match=r"rollout of step 4 in .*No space left") as told:
        writing.flush(timeout=0.0)
    assert told.value.is_persistent
    folder.room = True
    writing.close()
    assert list(found(tmp_path).samples) == [sample(0).key]


def test_nothing_is_lost_behind_a_write_that_a_full_disk_tore(tmp_path: Path) -> None:
    """In a process of its own, as the limit on its files stands in for the disk."""
    process = os.fork()
    if not process:
        code = 1
        try:
            code = _written_on_a_disk_that_fills(tmp_path)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert sorted(key.prompt for key in found(tmp_path).samples) == [0, 1, 2]


def _written_on_a_disk_that_fills(folder: Path) -> int:
    writing, (_, most) = opened(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    writing.add([sample(0)])
    writing.flush()
    (file,) = (folder / rollout_folder(4)).iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 1000, most))
    writing.add([sample(1, tokens=300)])
    with pytest.raises(StorageError):
        writing.flush(timeout=0.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    writing.flush()
    writing.add([sample(2)])
    writing.close()
    return 0


class Broken(LocalFolder):
    """Fails as no disk does."""

    def list(self, prefix: str = "") -> Any:
        raise ValueError("a name that is none")


def test_an_error_that_is_none_of_a_disk_is_told_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    writing = Journal(Broken(str(tmp_path)), FIRST, 0)
    writing.start_rollout(4, KEY)
    writing.add([sample(0)])
    with pytest.raises(ValueError, match="a name that is none"):
        writing.flush()
