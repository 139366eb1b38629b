"""Pages of stages do what they say: what they pack is packed, and what they train trains, only smaller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from footplate_contracts.names import ExitCode
from footplate_trainer.__main__ import main
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.manifest.run_file import InvalidManifest, read_run
from tests.support import plain_llama
from tests.support.chat import assistant, user
from tests.support.chat_model import write_chat_model
from tests.support.pages import Page
from tests.support.reinforced import STOP
from tests.support.stages import pack_conversations
from tests.support.tiny import read_rows

# The longest text of the model that stands in for the pages' own, and what takes hours on their hardware.
_SMALLER: Final = ("model.contextLength=256", "training.schedule={}")
_EIGHT: Final = "training.globalBatchSize=8"
_SHORT: Final = f"rollout={{maxTokens: 16, numGenerations: 4, generationBatchSize: 16, stop: {STOP}"


def page(name: str, folder: Path) -> Page:
    """With the model that it begins with."""
    write_chat_model(folder / "models" / "smollm2", [256, 258])
    (folder / "data").mkdir()
    return Page(name, folder)


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def pack_sums(folder: Path) -> None:
    """Prompts with their answers, as pages of reinforcement have them."""
    rows = [{"prompt": [user(f"{n} + {n} =")], "answer": f"{2 * n}"} for n in range(8)]
    source = write(folder / "sums.jsonl", rows)
    model = folder / "models" / "smollm2"
    pack_conversations(source, folder / "data" / "sums", model, format=RecordKind.PROMPTS)


def test_fine_tuning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = page("fine-tuning.md", tmp_path)
    rows = [{"messages": [user(f"What is {n} + {n}?"), assistant(f"It is {n + n}.")]} for n in range(12)]
    write(tmp_path / "chats.jsonl", rows)
    pack, export = found.blocks("sh")
    found.run(pack)
    assert capsys.readouterr().out.count(" tokens, 9 learnt\n") == 3, "as --show asks"
    found.run(pack.replace("/data/chats", "/data/held-out"))
    smaller = ("training.steps=4", "training.globalBatchSize=2", "training.optimizer={learningRate: 0.003}")
    found.train(0, (*_SMALLER, *smaller, "validation.everySteps=4", "checkpoint.everySteps=4"))
    losses = [row["loss"] for row in read_rows(Path(found.rows))]
    assert len(losses) == 4 and losses[-1] < losses[0]
    found.run(export)
    begun, ended = tmp_path / "models" / "smollm2", tmp_path / "models" / "support-chat"
    for file in ("chat_template.jinja", "generation_config.json", "tokenizer.json"):
        assert (ended / file).read_bytes() == (begun / file).read_bytes()


def test_generated_answers(tmp_path: Path) -> None:
    found = page("generated-answers.md", tmp_path)
    pack_sums(tmp_path)
    answers = tmp_path / "data" / "answers"
    short = f"{_SHORT}, output: {{uri: {answers}, best: 1}}}}"
    found.train(0, (*_SMALLER, short, "training.steps=2", _EIGHT))
    assert 0 < len(SampleShards(TokenShards.open(str(answers)))) <= 8, "the best of each prompt's that ended"
    assert [row["step"] for row in read_rows(Path(found.rows))] == [1, 2]


def test_generated_answers_by_a_reward_model(tmp_path: Path) -> None:
    found = Page("generated-answers.md", tmp_path)
    plain_llama.write(tmp_path / "models" / "smollm2", plain_llama.random_weights(7))
    judge = plain_llama.write(tmp_path / "checkpoints" / "judge", plain_llama.random_weights(17, "score"))
    settings = json.loads((judge / "config.json").read_text())
    (judge / "config.json").write_text(json.dumps(settings | {"mean": 0.5, "std": 2.0}))
    pack_sums(tmp_path)
    run, reward = (yaml.safe_load(block) for block in found.blocks("yaml"))
    run["spec"] |= reward
    answers = tmp_path / "data" / "answers"
    longer = _SHORT.replace("maxTokens: 16", "maxTokens: 128")  # than what the function wants
    short = f"{longer}, output: {{uri: {answers}, best: 1}}}}"
    found.train_run(yaml.safe_dump(run), (*_SMALLER, short, "training.steps=2", _EIGHT))
    [first, *_] = read_rows(Path(found.rows))
    assert first["values"].keys() >= {"rewards/model", "rewards/short"}
    samples = SampleShards(TokenShards.open(str(answers)))
    for columns in (samples[number].columns for number in range(len(samples))):
        assert columns is not None
        said = columns["rewards"]
        assert columns["reward"] == pytest.approx((said["model"] - 0.5) / 2.0 + 0.1 * said["short"])


def test_reinforcement(tmp_path: Path) -> None:
    found = page("reinforcement.md", tmp_path)
    pack_sums(tmp_path)
    found.train(0, (*_SMALLER, f"{_SHORT}}}", "training.steps=2", _EIGHT))
    first, second = read_rows(Path(found.rows))
    for row in (first, second):
        assert row["values"].keys() >= {"rewards/right", "rewards/length"}
        assert row["values"]["kl/coefficient"] == 0.02


def test_batch_invariance(tmp_path: Path) -> None:
    found = page("batch-invariance.md", tmp_path)
    pack_sums(tmp_path)
    (tmp_path / "run.yaml").write_text(Page("reinforcement.md", tmp_path).blocks("yaml")[0])
    Path(found.rows).touch()  # the page's, and not where the tests run
    [command] = found.blocks("sh")
    found.run(command, (*_SMALLER, f"{_SHORT}, batchInvariant: true}}", "training.steps=1", _EIGHT))
    [row] = read_rows(Path(found.rows))
    assert (row["values"]["kl/sampler"], row["values"]["policy/ratio"]) == (0, 1)


_LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "data ranks, `sharding` of any kind": ("parallelism.sharding=full",),
    "pipelines": ("parallelism.pipeline=2", "training.microBatchSize=4"),
    "`tensor`": ("parallelism.tensor=2",),
    "`tensor` of the rollout other than that of training": ("rollout.parallelism={tensor: 2}",),
    "`context`": ("parallelism.context=2",),
    "`training.compile`": ("training.compile=true",),
    "`dropout`": ("model.dropout={hidden: 0.1}",),
}


def test_what_batch_invariance_holds_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = page("batch-invariance.md", tmp_path)
    run = tmp_path / "run.yaml"
    run.write_text(Page("reinforcement.md", tmp_path).blocks("yaml")[0])
    table = found.text.split("\n| layout | holds |\n")[1].split("\n\n")[0].splitlines()[1:]
    rows = dict([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    assert rows.keys() == _LAYOUTS.keys()
    for layout, changes in _LAYOUTS.items():
        stated = (*_SMALLER, "rollout.batchInvariant=true", _EIGHT, *changes)
        words = [word for change in stated for word in ("--set", change)]
        refused = main(["plan", str(run), "--ranks", "2", *words]) != ExitCode.SUCCESS
        told = capsys.readouterr().err
        assert refused == rows[layout].startswith("no"), f"{layout}: {told}"
        assert not refused or layout.strip("`").split(".")[-1] in told


def test_the_beginning_of_a_chain_is_one_of_a_run(tmp_path: Path) -> None:
    """The rest is left out there; who gives a run what it names is the operator."""
    content = Page("chains.md", tmp_path).blocks("yaml")[0]
    rest = "data: {uri: /d}\n  training: {steps: 1, globalBatchSize: 1, optimizer: {learningRate: 1.0e-5}}\n"
    rest += "  compute: {profile: local-cpu}\n  checkpoint: {uri: /c}\n"
    (tmp_path / "run.yaml").write_text(content.replace("…\n", rest))
    alone = "initFrom.run: Forbidden: run base is known only to a cluster's operator; [^;]+$"
    with pytest.raises(InvalidManifest, match=alone):
        read_run(tmp_path / "run.yaml")
