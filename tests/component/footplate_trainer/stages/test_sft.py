"""sft on real ranks: packed as unpacked, and what it says of wrong data."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.huggingface.saved_processors import checkpoint_processors
from tests.support import layouts
from tests.support.layout_list import SGD
from tests.support.layouts import distance
from tests.support.ranks import run_ranks
from tests.support.stage_layouts import ALONE, of_kind
from tests.support.stages import CONTEXT, pack_chats
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

SFT = ("stage=sft", f"model.contextLength={CONTEXT}")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_chats(tmp_path_factory.mktemp("chats"))


@pytest.mark.parametrize("family", [pytest.param("llama", marks=pytest.mark.long), "gpt2"])
def test_packed_is_unpacked(family: str, chats: Path, tmp_path: Path) -> None:
    """All samples in each step, so that it does not matter which share a sequence."""
    data = ConversationDataset(TokenShards.open(str(chats)), CONTEXT)
    trained = [
        layouts.train(of_kind("sft", family, ALONE, *fields), SGD, chats, tmp_path / fields[0])
        for fields in (
            (f"training.globalBatchSize={len(data)}",),
            (f"training.globalBatchSize={len(data.kept.numbers)}", "data.packing.enabled=false"),
        )
    ]
    assert len(data) < len(data.kept.numbers) - 5, "too few share one for this to show anything"
    found = distance(*trained)
    assert found.is_small, found


def run(shards: Path, folder: Path, *overrides: str) -> Ended:
    """A whole run on one rank."""
    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(shards, folder, (*SFT, *overrides)))[0]
    return end


def test_a_whole_run_validates_with_its_own_loss(chats: Path, tmp_path: Path) -> None:
    end = run(chats, tmp_path, f"validation={{everySteps: 3, uri: {chats}, batches: 2}}")
    assert end.code == ExitCode.SUCCESS, end.stderr
    losses = [row.validation_loss for row in end.agent.rows if row.validation_loss is not None]
    assert len(losses) == 2 and losses[1] < losses[0]
    kept = checkpoint_processors(find_newest_whole(str(tmp_path / "checkpoints")))
    assert kept.chat_template() == TokenShards.open(str(chats)).template, (
        "it began with none, and talks in that"
    )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(("data.mask=completion",), "data.mask completion: the samples in", id="mask"),
        pytest.param(("model.contextLength=32",), "more than contextLength 32 tokens", id="overlong"),
    ],
)
def test_samples_that_do_not_suit_the_run_end_it_before_the_first_step(
    overrides: tuple[str, ...], says: str, chats: Path, tmp_path: Path
) -> None:
    end = run(chats, tmp_path, *overrides)
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert says in end.stderr and "Traceback" not in end.stderr


def test_running_text_is_no_conversation(shards: Path, tmp_path: Path) -> None:
    end = run(shards, tmp_path)
    assert end.code == ExitCode.CONFIG
    assert "stage sft is trained on data packed with --format chat, but" in end.stderr
