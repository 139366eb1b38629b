"""Stage generate on real ranks: a data set that sft trains on, the same whatever interrupts its making."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from footplate_contracts.directives import NumberedLimits
from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.v1alpha1.data import LossMask
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_trainer.data.check import check_provenance
from footplate_trainer.data.layout import MANIFEST_FILE, GeneratedRecord, RecordKind, SpecialTokenRole
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.data.writer import new_folder
from footplate_trainer.errors import UserMistake
from footplate_trainer.rollout.journal_files import FOLDER, rollout_folder
from footplate_trainer.rollout.output import UNENDED
from tests.support.chat import chatml_model
from tests.support.ranks import run_ranks
from tests.support.reinforced import (
    CONTEXT,
    GROUP,
    REWARDED,
    STOP,
    Interrupting,
    Reinforced,
    generate,
    generate_config,
    pack_prompts,
)
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, train_under

SHORT = ("rollout.maxTokens=1", "rollout.stop=[]", "reward.functions=[{name: short, length: {}}]")
PROMPTS = 10  # of which the third rollout asks the last 2


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_prompts(tmp_path_factory.mktemp("prompts"), PROMPTS)


def start(prompts: Path, folder: Path, ranks: int, agent: FakeAgent, *more: str) -> Reinforced:
    """One start of the run, to whatever end."""
    return run_ranks(generate, ranks, agent, generate_config(prompts, folder, REWARDED, *more))[0]


def content(folder: Path) -> dict[str, str]:
    """The digest of each file of the answers."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "answers").iterdir())
    }


def answers(folder: Path) -> list[tuple[bytes, int]]:
    """The prompt of each sample, and how many tokens were drawn behind it."""
    shards = TokenShards.open(str(folder / "answers"))
    samples, tokenizer = SampleShards(shards), Tokenizer.from_file(str(shards.tokenizer_path))
    found = []
    for document in (samples[number].documents[0] for number in range(len(samples))):
        answer = document.tokens[document.learnt].tolist()
        stopped = not set(tokenizer.decode(answer[:-1])).isdisjoint(STOP)
        found.append((document.tokens[: document.prompt].tobytes(), len(answer) - stopped))
    return found


def lineage(folder: Path) -> GeneratedRecord:
    """What the manifest says of where the answers come from."""
    found = TokenShards.open(str(folder / "answers")).manifest.generated
    assert found is not None
    return found


def shortest(found: list[tuple[bytes, int]]) -> dict[bytes, int]:
    """The least length for each prompt."""
    return {prompt: min(length for asked, length in found if asked == prompt) for prompt, _ in found}


@pytest.fixture(scope="module")
def undisturbed(prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reinforced]:
    folder = tmp_path_factory.mktemp("undisturbed")
    end = start(prompts, folder, 1, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    return folder, end


def test_its_answers_are_what_pack_could_have_written(
    undisturbed: tuple[Path, Reinforced], prompts: Path
) -> None:
    folder, end = undisturbed
    shards, asked = TokenShards.open(str(folder / "answers"), verify=(0, 1)), TokenShards.open(str(prompts))
    manifest, samples = shards.manifest, SampleShards(shards)
    assert manifest.format is RecordKind.CHAT
    assert manifest.special_ids == asked.manifest.special_ids
    assert manifest.tokenizer.sha256 == asked.manifest.tokenizer.sha256
    assert manifest.samples is not None and asked.manifest.samples is not None
    assert manifest.samples.template == asked.manifest.samples.template
    assert manifest.samples.mask is LossMask.COMPLETION
    dropped = manifest.samples.dropped[UNENDED]
    assert 0 < dropped < PROMPTS * GROUP == len(samples) + dropped
    tokenizer = Tokenizer.from_file(str(asked.tokenizer_path))
    behind = [tokenizer.token_to_id("<|im_end|>"), *tokenizer.encode("\n").ids]
    known = [sample.tolist() for sample in (asked.document(number) for number in range(PROMPTS))]
    for number in range(len(samples)):
        [document] = samples[number].documents
        assert document.learnt is not None
        learnt = np.flatnonzero(document.learnt)
        assert document.tokens[: document.prompt].tolist() in known
        assert document.tokens[-2:].tolist() == behind
        assert learnt.tolist() == list(range(document.prompt, len(document.tokens) - 1))
    assert lineage(folder).prompts == asked.manifest.digest
    assert [row.step for row in end.agent.rows] == [1, 2, 3]
    assert all(row.values and row.values["reward/sum"] < 0 for row in end.agent.rows)
    assert not any((folder / "checkpoints" / FOLDER).glob("*")), "journals stay behind"
    phases = {report.phase for report in end.agent.reports}
    assert {RankPhase.ROLLOUT, RankPhase.SCORING, RankPhase.CHECKPOINT, RankPhase.FINISHED} <= phases
    last = end.agent.reports[-1]
    assert (last.data, last.answers) == (asked.manifest.digest, content(folder)[MANIFEST_FILE])


def test_sft_trains_on_its_answers_and_answers_next(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    sft = ("stage=sft", f"model.contextLength={CONTEXT}", "training.steps=2")
    data = str(undisturbed[0] / "answers")
    given = LineageEntry(
        field="data",
        run="answers",
        uid=lineage(undisturbed[0]).uid,
        uri=data,
        digest=content(undisturbed[0])[MANIFEST_FILE],
    )
    config = tiny_config(Path(data), tmp_path, sft).model_copy(update={"lineage": [given]})
    [ended] = run_ranks(train_under, 1, FakeAgent(), config)
    assert ended.code == ExitCode.SUCCESS, ended.stderr
    assert ended.agent.reports[-1].data == TokenShards.open(data).manifest.digest
    assert len(ended.agent.rows) == 2
    end = start(prompts, tmp_path / "next", 1, FakeAgent(), f"initFrom.uri={tmp_path / 'checkpoints'}")
    assert end.code == ExitCode.SUCCESS, end.stderr
    before, after = lineage(undisturbed[0]), lineage(tmp_path / "next")
    assert (before.weights_from, before.weights_step) == (None, None)
    assert after.weights_from == str(tmp_path / "checkpoints" / "step-2.e0g0")
    assert after.weights_step == 2
    assert after.weights != before.weights
    assert after.prompts == before.prompts


def test_two_ranks_write_what_one_does(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    end = start(prompts, tmp_path, 2, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])
    assert end.losses == pytest.approx(undisturbed[1].losses, rel=1e-6)


@pytest.mark.parametrize(
    ("phase", "before", "after"),
    [
        pytest.param(RankPhase.ROLLOUT, 2, 1, id="drawing"),
        pytest.param(RankPhase.SCORING, 1, 2, id="scoring", marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_writes_what_it_would_have_written(
    phase: RankPhase,
    before: int,
    after: int,
    undisturbed: tuple[Path, Reinforced],
    prompts: Path,
    tmp_path: Path,
) -> None:
    agent = Interrupting(phase=phase, after_step=1, looks=4 if phase is RankPhase.ROLLOUT else 1, kills=True)
    with pytest.raises(AssertionError, match="ended without an answer"):
        start(prompts, tmp_path, before, agent)
    assert not (tmp_path / "answers").exists()
    end = start(prompts, tmp_path, after, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])
    assert [row.step for row in end.agent.rows] == [1, 2, 3]
    assert "rollout/tokens" not in (end.agent.rows[0].values or {}), "the first rollout was drawn again"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param(
            {"uid": "u"}, "now belongs to run tiny with uid .*, not to uid u; create", id="another-run"
        ),
        pytest.param({"digest": "0" * 64}, "has changed: its manifest.json has SHA-256", id="another"),
    ],
)
def test_answers_that_are_not_those_that_were_given_are_refused(
    undisturbed: tuple[Path, Reinforced], tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    uid = lineage(undisturbed[0]).uid
    entry = LineageEntry(field="data", run="other", uid=uid, uri=str(undisturbed[0] / "answers"))
    config = tiny_config(tmp_path, tmp_path, ("stage=sft",))
    given = {"lineage": [entry.model_copy(update=changes)]}
    check_provenance(config.model_copy(update={"lineage": [entry]}))
    with pytest.raises(UserMistake, match=f"^data.run other: the data set .* {says}"):
        check_provenance(config.model_copy(update=given))


@pytest.mark.long
def test_a_suspended_run_goes_on(undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path) -> None:
    agent = Interrupting(phase=RankPhase.ROLLOUT, after_step=1, looks=4)
    suspended = start(prompts, tmp_path, 1, agent)
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    end = start(prompts, tmp_path, 1, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])


@pytest.mark.parametrize(
    ("asked", "last_step"), [pytest.param(9, 9, id="longer"), pytest.param(2, 3, id="shorter")]
)
def test_what_is_written_is_not_drawn_again(
    asked: int, last_step: int, undisturbed: tuple[Path, Reinforced], prompts: Path
) -> None:
    """Also where other rollouts are asked for by now: it tells how many there were."""
    folder, _ = undisturbed
    before = content(folder)
    told = NumberedLimits(steps=asked, every_steps=4, keep_last=3, epoch=1, number=1)
    end = start(prompts, folder, 1, FakeAgent(told={0: told}))
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert end.agent.rows == []
    assert RankPhase.ROLLOUT not in {report.phase for report in end.agent.reports}
    last = end.agent.reports[-1]
    assert (last.step, last.total_steps) == (3, last_step), "with fewer it would be started anew"
    assert lineage(folder).rollouts == 3
    assert last.answers == before[MANIFEST_FILE]
    assert content(folder) == before


def test_journals_that_a_kill_behind_the_manifest_left_go(
    undisturbed: tuple[Path, Reinforced], prompts: Path
) -> None:
    """Also that of a rollout beyond a length that the run was given later."""
    folder, _ = undisturbed
    for number in (2, 40):
        left = folder / "checkpoints" / rollout_folder(number) / "e0g0-r0-0.records"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"left")
    assert start(prompts, folder, 1, FakeAgent()).code == ExitCode.SUCCESS
    assert not any((folder / "checkpoints" / FOLDER).glob("*"))


@dataclass
class Quicker(FakeAgent):
    """At the moment of writing, another generation has written already, and has removed the journals."""

    theirs: Path = Path()
    folder: Path = Path()

    def report(self, report: RankReport) -> None:
        super().report(report)
        if report.phase is RankPhase.CHECKPOINT and not (self.folder / "answers").exists():
            shutil.copytree(self.theirs / "answers", self.folder / "answers")
            shutil.rmtree(self.folder / "checkpoints" / FOLDER)


def test_a_generation_that_comes_second_has_succeeded_too(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    end = start(prompts, tmp_path, 1, Quicker(theirs=undisturbed[0], folder=tmp_path))
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])


def test_while_another_generation_writes_it_is_tried_again(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "answers"):
        end = start(prompts, tmp_path, 1, FakeAgent())
        assert end.code == ExitCode.STORAGE, end.stderr
        assert "answers is being written by another process; wait for it" in end.stderr
        raise KeyboardInterrupt
    end = start(prompts, tmp_path, 1, FakeAgent())
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])


def test_a_length_beyond_the_prompts_changes_nothing(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    longer = NumberedLimits(steps=9, every_steps=4, keep_last=3, epoch=1, number=1)
    end = start(prompts, tmp_path, 1, FakeAgent(told={1: longer}))
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert content(tmp_path) == content(undisturbed[0])
    assert [row.step for row in end.agent.rows] == [1, 2, 3]
    assert "ignoring the request for 9 steps; the last step is 3" in end.stderr


def test_the_best_of_a_prompts_answers_stay(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    end = start(prompts, tmp_path, 1, FakeAgent(), "rollout.output.best=1")
    assert end.code == ExitCode.SUCCESS, end.stderr
    every, best = answers(undisturbed[0]), answers(tmp_path)
    assert set(best) < set(every)
    assert len(best) == PROMPTS < len(every)
    assert shortest(best) == shortest(every)


def test_without_rewards_all_that_ended_stays(
    undisturbed: tuple[Path, Reinforced], prompts: Path, tmp_path: Path
) -> None:
    end = run_ranks(generate, 1, FakeAgent(), generate_config(prompts, tmp_path))[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert all("reward/sum" not in (row.values or {}) for row in end.agent.rows)
    assert answers(tmp_path) == answers(undisturbed[0])


def test_an_answer_to_a_text_ends_as_texts_do(tmp_path: Path) -> None:
    """No chat template wrote its prompt, whose tokens end a turn."""
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(f'{{"prompt": "{letter}"}}\n' for letter in "qrst"))
    model = chatml_model(tmp_path / "model")
    ends = {SpecialTokenRole.EOS: "<|endoftext|>"}
    texts = pack_conversations(rows, tmp_path / "texts", model, format=RecordKind.PROMPTS, special=ends)
    end = start(texts, tmp_path, 1, FakeAgent(), "training.steps=1", "training.schedule={name: constant}")
    assert end.code == ExitCode.SUCCESS, end.stderr
    samples = SampleShards(TokenShards.open(str(tmp_path / "answers")))
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    last = [samples[number].documents[0].tokens[-2:].tolist() for number in range(len(samples))]
    stopped = [end for before, end in last if tokenizer.decode([before]) in STOP]
    assert set(stopped) == {tokenizer.token_to_id("<|endoftext|>")}


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        pytest.param(
            ("training.steps=4",),
            "training.steps 4 needs more rollouts than the prompts fill: 10, with 4 in each, fill 3; set at "
            "most 3",
            id="more-steps-than-prompts",
        ),
        pytest.param(
            (*SHORT, "rollout.generationBatchSize=4", "training.steps=2"),
            "no answer is left for",
            id="answers-that-never-end",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_cannot_work_is_said(
    more: tuple[str, ...], complaint: str, prompts: Path, tmp_path: Path
) -> None:
    end = start(prompts, tmp_path, 1, FakeAgent(), *more)
    assert end.code == ExitCode.CONFIG, end.stderr
    assert complaint in end.stderr
    assert not (tmp_path / "answers").exists()


def test_a_data_set_of_others_is_left_alone(prompts: Path, tmp_path: Path) -> None:
    output = f"rollout.output.uri={prompts}"
    before = (prompts / MANIFEST_FILE).read_bytes()
    end = start(prompts, tmp_path, 1, FakeAgent(), output)
    assert end.code == ExitCode.CONFIG, end.stderr
    assert "already has a data set; use a folder that does not exist yet" in end.stderr
    assert (prompts / MANIFEST_FILE).read_bytes() == before
