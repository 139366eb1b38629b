"""Stage sft does what TRL's sft does with the same folder and rows: losses, gradient norms and weights.

TRL counts the line end behind the last turn to a completion, and nothing can tell it otherwise; here it
belongs to nobody. So masks `assistant` and `all` are compared, and completions by the formulas alone
(test_trl.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from footplate_contracts.names import ExitCode
from footplate_contracts.v1alpha1.data import Mask
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.huggingface.export import export
from tests.support.ranks import run_ranks
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under
from tests.support.trl_cases import CHATS, ROWS_OF_A_STEP, Answers, answers

CONTEXT = 256
MASKS = {"sft-all": Mask.ALL, "sft-assistant": Mask.ASSISTANT, "sft-packed": Mask.ASSISTANT}


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers(tmp_path_factory)


def in_the_order_of_trl(folder: Path) -> Path:
    """The rows in a file, so that the order of samples makes of them the sequence that TRL takes."""
    places = order.sample_ids(3, np.arange(len(CHATS), dtype=np.int64), len(CHATS))
    rows = dict(zip(places.tolist(), CHATS, strict=True))
    source = folder / "chats.jsonl"
    source.write_text("".join(json.dumps(rows[place]) + "\n" for place in range(len(CHATS))))
    return source


@pytest.mark.parametrize(
    "ranks", [pytest.param(1, id="alone"), pytest.param(2, id="two-ranks", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("name", MASKS)
def test_each_step_is_that_of_trl(name: str, ranks: int, trl: Answers, tmp_path: Path) -> None:
    told, packed = trl.seen[name], name == "sft-packed"
    model, steps = trl.folders["lm_head"], len(told.losses)
    source = in_the_order_of_trl(tmp_path)
    shards = pack_conversations(source, tmp_path / "shards", model, mask=MASKS[name])
    data = ConversationDataset(TokenShards.open(str(shards)), CONTEXT)
    overrides = [
        "stage=sft",
        f"initFrom={{uri: {model}}}",
        f"model={{contextLength: {CONTEXT}}}",
        "data.seed=3",
        f"data.packing.enabled={str(packed).lower()}",
        f"training.steps={steps}",
        f"training.globalBatchSize={len(data) if packed else ROWS_OF_A_STEP}",
        "training.microBatchSize=1",
        "training.optimizer={name: sgd, learningRate: 0.01}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]

    end: Ended = run_ranks(train_under, ranks, FakeAgent(), tiny_config(shards, tmp_path, overrides))[0]

    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    assert [row.loss for row in rows] == pytest.approx(told.losses, rel=0, abs=2e-6)
    assert [row.gradient_norm for row in rows] == pytest.approx(told.gradient_norms, rel=1e-5)
    export(newest_whole(str(tmp_path / "checkpoints")), tmp_path / "exported")
    theirs = load_file(str(told.weights[-1]))
    ours = load_file(str(tmp_path / "exported" / "model.safetensors"))
    assert ours.keys() == theirs.keys()
    for weight, expected in theirs.items():
        torch.testing.assert_close(ours[weight], expected, rtol=0, atol=1e-5)
