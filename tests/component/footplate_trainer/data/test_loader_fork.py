"""Ranks are forked: a loader must work on both sides of a fork, and start no thread before its time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from footplate_trainer.data.datasets import SequenceDataset
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.pack import pack
from footplate_trainer.data.shards import TokenShards

RANKS = 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SequenceDataset:
    out = tmp_path_factory.mktemp("data") / "shards"
    pack(["python-docs:"], out, vocabulary_size=512, shard_tokens=30_000)
    return SequenceDataset(TokenShards.open(str(out)), 64)


def loader(dataset: SequenceDataset, rank: int = 0, degree: int = 1) -> BatchLoader:
    return BatchLoader(
        dataset, seed=1, global_batch_size=12, micro_batch_size=2, data_rank=rank, data_degree=degree
    )


def in_child(work) -> str:
    """What `work()` returns in a forked process, as a rank is forked from its zygote."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            text = work()
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def test_forked_ranks_see_the_same_steps(dataset: SequenceDataset) -> None:
    def digests(one: BatchLoader) -> str:
        return " ".join(one.step(step).sample_digest for step in range(5))

    expected = digests(loader(dataset))
    for rank in range(RANKS):
        assert in_child(lambda rank=rank: digests(loader(dataset, rank, RANKS))) == expected


def test_a_loader_that_was_used_before_the_fork_works_after_it(dataset: SequenceDataset) -> None:
    used = loader(dataset)
    used.step(0)
    expected = loader(dataset).build(1).sample_digest

    def after_fork() -> str:
        alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("footplate-data")]
        digest = used.step(1).sample_digest
        used.close()
        return f"{alive} {digest}"

    assert in_child(after_fork) == f"[] {expected}"
    assert used.step(1).sample_digest == expected
    used.close()


def test_an_unclosed_loader_does_not_keep_the_interpreter_alive(dataset: SequenceDataset) -> None:
    code = f"""
from footplate_trainer.data.datasets import SequenceDataset
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.shards import TokenShards
dataset = SequenceDataset(TokenShards.open({str(dataset.shards.folder)!r}), 64)
print(BatchLoader(dataset, seed=1, global_batch_size=12, micro_batch_size=2).step(0).sample_digest)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == loader(dataset).build(0).sample_digest
