"""Ranks are forked from a process that has no thread: a loader works there, and ends with its process."""

from __future__ import annotations

import os
import subprocess
import sys

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
