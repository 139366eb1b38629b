"""What a rollout's reward model says of an answer is what transformers gives the whole conversation.

`apply_chat_template` renders it there, with whatever the template writes behind an answer, and the score is
read at the last token: as in training, where rows are conversations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.data.sources import RunShards, dataset_of
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal_records import Record, SampleRecord
from tests.support.chat import assistant, user
from tests.support.plain_llama import END, TEMPLATE, random_weights, write
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, reinforce
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

ANSWERS: Final = ("Yes.", "It is not so, I fear", "", "Ask again\nlater")
NO_TAIL: Final = TEMPLATE.replace("{{ '\n' }}", "")
MORE: Final = TEMPLATE + "{% if not add_generation_prompt %}<|im_start|>{% endif %}"  # as Phi ends a text
ONE_STEP: Final = (
    "stage=ppo",
    "model={contextLength: 128}",
    f"rollout={{maxTokens: 32, generationBatchSize: {len(ANSWERS)}}}",
    "training.steps=1",
    f"training.globalBatchSize={len(ANSWERS)}",
    "training.optimizer={name: sgd, learningRate: 1.0e-30}",
    "training.schedule={name: constant}",
)


def first_prompts(config: RunConfig, number: int) -> list[list[int]]:
    """The tokens of the first `number` prompts of a run."""
    shards = RunShards.open(config.data)
    prompts = PromptOrder(
        dataset_of(
            shards, config.data, config.training.loss.name, config.model.context_length, STAGES[config.stage]
        ),
        config.data.seed,
    )
    return [prompts.at(place).tokens.tolist() for place in range(number)]


def played(answers: Sequence[tuple[Sequence[int], EndReason]]) -> list[Record]:
    """Answers to the first prompts, as they are drawn."""
    records: list[Record] = []
    for place, (tokens, reason) in enumerate(answers):
        nothing = np.zeros(len(tokens), dtype=np.float32)
        key = SampleKey(0, place, 0)
        records.append(SampleRecord(key, np.array(tokens, dtype=np.int32), nothing, nothing, reason))
    return records


@pytest.mark.parametrize(
    ("template", "of_texts"),
    [
        pytest.param(TEMPLATE, False, id="chatml"),
        pytest.param(TEMPLATE, True, id="texts-beside-chatml"),
        pytest.param(NO_TAIL, False, id="nothing-behind"),
        pytest.param(MORE, False, id="another-end-behind"),
    ],
)
def test_an_answer_has_the_score_of_its_conversation(template: str, of_texts: bool, tmp_path: Path) -> None:
    policy = write(tmp_path / "policy", random_weights(7), template=template)
    judge = write(tmp_path / "judge", random_weights(17, "score"), template=template)
    asked: list[Any] = [f"Question {number}?" if of_texts else [user("?" * number)] for number in range(1, 5)]
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    shards = pack_conversations(source, tmp_path / "shards", policy, format=RecordKind.PROMPTS)
    overrides = (*ONE_STEP, f"initFrom={{uri: {policy}}}", f"reward={{uri: {judge}, normalization: none}}")
    config = tiny_config(shards, tmp_path, overrides)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    end = tokenizer.convert_tokens_to_ids(END)
    said = [tokenizer.encode(answer) for answer in ANSWERS]
    cut = [*said[1], *said[0]]  # ended by nothing
    given = [([*tokens, end], EndReason.END) for tokens in said]
    given[1] = (cut, EndReason.LENGTH)

    kept = first_prompts(complete_config(config, None), len(given))
    ended: Reinforced = run_ranks(reinforce, 1, FakeAgent(), config, {0: played(given)})[0]

    assert ended.code == ExitCode.SUCCESS, ended.stderr
    whole = []
    for place, prompt in enumerate(kept):
        if of_texts:  # no template was applied, and such texts end with the end of text
            whole.append([*prompt, *said[place], end])
            continue
        [turn] = [turn for turn in asked if _ids(tokenizer, turn, opened=True) == prompt]
        whole.append(_ids(tokenizer, [*turn, assistant(ANSWERS[place])]))
        behind = {TEMPLATE: 1, NO_TAIL: 0, MORE: 2}[template]
        assert len(whole[-1]) == len(prompt) + len(said[place]) + 1 + behind
    whole[1] = [*kept[1], *cut]
    model = AutoModelForSequenceClassification.from_pretrained(judge).eval()
    with torch.inference_mode():
        scores = [model(torch.tensor([ids])).logits.item() for ids in whole]
    shown = {told.prompt: told.reward for told in ended.agent.samples[1]}
    assert len(shown) > 1
    [row] = ended.agent.rows
    assert row.values["rewards/model"] == pytest.approx(sum(scores) / len(scores), abs=1e-5)
    assert len({round(score, 3) for score in scores}) == len(scores)
    for told in shown.values():
        assert min(abs(told - score) for score in scores) < 1e-5


def _ids(tokenizer: Any, messages: Sequence[Any], *, opened: bool = False) -> list[int]:
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
