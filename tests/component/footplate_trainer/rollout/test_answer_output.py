"""The answers in a journal as a data set: how each of them ends, and who hears that it is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from tokenizers import Tokenizer

from footplate_contracts.reports import GenerationId
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.data import LossMask
from footplate_contracts.v1alpha1.reward import RewardNormalization
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.checkpoint.training_state import HeldOutScores
from footplate_trainer.data.layout import GeneratedRecord, RecordKind, SpecialTokenRole
from footplate_trainer.data.prompt_dataset import AppendedEndTokens, Prompt, PromptOrder
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import RewardsRecord, SampleRecord
from footplate_trainer.rollout.output import UNCLOSED, AnswerOutput
from footplate_trainer.rollout.reward_model import MODEL, reward_model_row
from footplate_trainer.rollout.reward_normalization import RewardNormalizer
from footplate_trainer.rollout.settings import RolloutSettings
from tests.support.chat import chatml_model, user
from tests.support.reinforced import CONTEXT, GROUP, generate_config, pack_prompts
from tests.support.stages import pack_conversations

END, DRAWN, END_OF_TEXT = 2, [40, 41, 42], 3
CHAT: Final = {"prompt": [user("a")]}
TEXT: Final = {"prompt": "a"}
KEY = JournalKey("answers")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_prompts(tmp_path_factory.mktemp("prompts"), 3)


def output(
    prompts: Path,
    folder: Path,
    uri: str,
    *,
    end: int | None = END,
    end_of_text: int | None = None,
    room: int = 9,
    normaliser: RewardNormalizer | None = None,
) -> AnswerOutput:
    """Of one rollout, whose answers a text stopped; behind the longest prompt `room` tokens fit.

    With a `normaliser` a reward model has spoken, too: the number of each answer among its siblings.
    """
    config = generate_config(prompts, folder)
    shards = RunShards.open(config.data)
    order = PromptOrder(dataset_of(shards, config.data, "crossEntropy", CONTEXT, STAGES[config.stage]), 0)
    journal = Journal(LocalFolder(str(folder)), GenerationId(epoch=1, number=1), 0)
    journal.start_rollout(0, KEY)
    chances = np.zeros(len(DRAWN), dtype=np.float32)
    for key in (SampleKey(0, place, sibling) for place in range(3) for sibling in range(GROUP)):
        drawn = SampleRecord(key, np.array(DRAWN, dtype=np.int32), chances, chances, EndReason.STOP)
        told = {"even": 1.0, **({} if normaliser is None else {MODEL: float(key.sibling)})}
        journal.add([drawn, RewardsRecord(key, drawn.mark, told)])
    journal.flush()
    journal.close()
    assert config.rollout is not None and config.rollout.output is not None
    return AnswerOutput(
        config.rollout.output.model_copy(update={"uri": uri}),
        RolloutSettings.for_generation(config),
        order,
        shards,
        LocalFolder(str(folder)),
        KEY,
        {"even": 1.0, **({} if normaliser is None else {MODEL: 3.0})},
        max(len(order.at(place).tokens) for place in range(3)) + room,
        GeneratedRecord(run="r", uid="u", weights="w", prompts="p", prompts_from=[str(prompts)]),
        Tokenizer.from_str(shards.tokenizer.decode()).decode,
        AppendedEndTokens(end, end if end_of_text is None else end_of_text),
        normaliser,
    )


@pytest.mark.parametrize("kind", ["volume", "elsewhere"])
def test_an_answer_that_a_text_stopped_ends_its_turn(kind: str, prompts: Path, tmp_path: Path) -> None:
    uri = str(tmp_path / "answers") if kind == "volume" else f"memory://{tmp_path.name}"
    told: list[int] = []
    manifest = output(prompts, tmp_path, uri).write([range(3)], told.append)
    samples = SampleShards(TokenShards.open(uri))
    assert manifest.documents == len(samples) == 3 * GROUP
    for document in (samples[number].documents[0] for number in range(len(samples))):
        assert document.learnt is not None
        assert document.tokens[document.learnt].tolist() == [*DRAWN, END]
    files = 0 if kind == "volume" else len(list(manifest.files())) + 1
    assert told == list(range(1, 3 * GROUP + files + 1)), "a long write would be taken for a hang"


@pytest.mark.parametrize(
    "is_text", [pytest.param(False, id="conversation"), pytest.param(True, id="text-that-no-template-wrote")]
)
def test_an_answer_is_what_pack_writes_of_it_and_its_prompt(is_text: bool, tmp_path: Path) -> None:
    """To the line end that the template has behind a turn; a text ends with the end of text instead."""
    model, rows = chatml_model(tmp_path / "model"), tmp_path / "rows.jsonl"
    asked: list[Any] = [text if is_text else [user(text)] for text in ("once", "twice", "thrice")]
    rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    ends = {SpecialTokenRole.EOS: "<|endoftext|>"} if is_text else {}
    prompts = pack_conversations(rows, tmp_path / "prompts", model, format=RecordKind.PROMPTS, special=ends)
    uri = str(tmp_path / "answers")
    special = TokenShards.open(str(prompts)).special
    of_turn = Tokenizer.from_file(str(model / "tokenizer.json")).token_to_id("<|im_end|>")
    assert not is_text or special.end not in (None, of_turn)
    writing = output(prompts, tmp_path, uri, end=of_turn, end_of_text=special.end)
    writing.write([range(3)])
    answer = writing.text_of(DRAWN)
    told = [
        {
            "prompt": writing.prompts.at(place).columns["prompt"],
            "completion": answer if is_text else [{"role": "assistant", "content": answer}],
        }
        for place in range(3)
        for _ in range(GROUP)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in told))
    both = pack_conversations(rows, tmp_path / "both", model, mask=LossMask.COMPLETION, special=ends)
    mine, packed = (SampleShards(TokenShards.open(place)) for place in (uri, str(both)))
    assert len(mine) == len(packed) == 3 * GROUP
    for number in range(len(mine)):
        [found], [expected] = mine[number].documents, packed[number].documents
        assert found.tokens.tolist() == expected.tokens.tolist()
        assert found.learnt is not None and expected.learnt is not None
        assert found.learnt.tolist() == expected.learnt.tolist()
        assert found.learnt[-1] == is_text, "a line end is learnt, or no end"
        assert found.prompt == expected.prompt


def test_what_stands_behind_a_turn_is_left_out_where_the_context_ends(prompts: Path, tmp_path: Path) -> None:
    of_turn = Tokenizer.from_file(str(prompts / "tokenizer.json")).token_to_id("<|im_end|>")
    writing = output(prompts, tmp_path, str(tmp_path / "answers"), end=of_turn, room=len(DRAWN) + 1)
    writing.write([range(3)])
    samples = SampleShards(TokenShards.open(str(tmp_path / "answers")))
    documents = [samples[number].documents[0] for number in range(len(samples))]
    longest = max(found.prompt for found in documents)
    for found in documents:
        assert found.learnt is not None
        assert found.tokens[found.learnt].tolist() == [*DRAWN, of_turn]
        assert (found.tokens[-1] == of_turn) == (found.prompt == longest)


def test_a_text_of_which_nothing_says_how_it_ends_ends_as_a_turn_does() -> None:
    text = Prompt(0, np.array([7], dtype=np.int64), TEXT)
    assert AppendedEndTokens(END, None).for_prompt(text) == END


@pytest.mark.parametrize(
    ("columns", "reason", "closing", "read"),
    [
        pytest.param(CHAT, EndReason.STOP, END, [*DRAWN, END, 5], id="turn-that-a-text-stopped"),
        pytest.param(CHAT, EndReason.STOP, None, DRAWN, id="turn-that-is-not-closed"),
        pytest.param(CHAT, EndReason.LENGTH, END, DRAWN, id="turn-that-was-cut-off"),
        pytest.param(TEXT, EndReason.STOP, END, [*DRAWN, END_OF_TEXT], id="text-that-a-text-stopped"),
        pytest.param(TEXT, EndReason.END, END, DRAWN, id="text-that-ended"),
    ],
)
def test_a_reward_model_reads_an_answer_as_it_is_written(
    columns: dict[str, Any], reason: EndReason, closing: int | None, read: list[int]
) -> None:
    turn_end = () if columns is TEXT else (END, 5)
    prompt = Prompt(0, np.array([7, 8], dtype=np.int64), columns, turn_end)
    chances = np.zeros(len(DRAWN), dtype=np.float32)
    drawn = SampleRecord(SampleKey(0, 0, 0), np.array(DRAWN, dtype=np.int32), chances, chances, reason)
    closed = None if closing is None else AppendedEndTokens(closing, END_OF_TEXT).for_prompt(prompt)
    assert reward_model_row(prompt, drawn, closed).tokens.tolist() == read


@pytest.mark.parametrize(
    ("how", "sums"),
    [
        pytest.param(RewardNormalization.NONE, [1.0, 4.0, 7.0, 10.0], id="as-they-are"),
        pytest.param(RewardNormalization.HELD_OUT, [-0.5, 1.0, 2.5, 4.0], id="by-held-out-ones"),
    ],
)
def test_what_rewards_said_stands_beside_an_answer(
    how: RewardNormalization, sums: list[float], prompts: Path, tmp_path: Path
) -> None:
    """A model's score as it was, and in the sum by a mean and a deviation."""
    uri, scores = str(tmp_path / "answers"), HeldOutScores(mean=1.0, deviation=2.0)
    output(prompts, tmp_path, uri, normaliser=RewardNormalizer(how, scores)).write([range(1)])
    samples = SampleShards(TokenShards.open(uri))
    told = [samples[number].columns for number in range(len(samples))]
    expected = [
        {"reward": total, "rewards": {"even": 1.0, MODEL: number}} for number, total in enumerate(sums)
    ]
    assert told == expected


@pytest.mark.parametrize(
    ("end", "room"), [pytest.param(None, 9, id="no-token"), pytest.param(END, len(DRAWN), id="no-room")]
)
def test_one_that_cannot_end_its_turn_is_left_out(
    end: int | None, room: int, prompts: Path, tmp_path: Path
) -> None:
    writing = output(prompts, tmp_path, str(tmp_path / "answers"), end=end, room=room)
    places = [
        place for place in range(3) if len(writing.prompts.at(place).tokens) + room == writing.context_length
    ]
    with pytest.raises(UserMistake, match=f"no answer is left .*: {GROUP * len(places)} {UNCLOSED}"):
        writing.write([range(place, place + 1) for place in places])
