"""A rollout of one rank is drawn and rewarded once, whatever stops it, and draws nothing anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from footplate_contracts.names import Backend
from footplate_contracts.reports import GenerationId
from footplate_contracts.v1alpha1.reinforcement import GroupAdvantage
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.prompt_dataset import Prompt, PromptDataset, PromptOrder
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import TrainerError
from footplate_trainer.generation.requests import EndReason, GeneratedAnswer, GenerationRequest
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.metrics.stopwatch import Stopwatch
from footplate_trainer.parallel import world as distributed
from footplate_trainer.parallel.world import DistributedContext, RankEnvironment, read_environment
from footplate_trainer.rewards.reward_samples import RewardResult, RolloutSample, SampleKey, Unrewarded
from footplate_trainer.rewards.scorers import open_scorer, to_json
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.groups import GroupPlan
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import CollectedRollout, RewardsRecord, RolloutState
from footplate_trainer.rollout.reward_model import MODEL
from footplate_trainer.rollout.settings import RolloutSettings
from tests.support.chat import user
from tests.support.ranks import run_ranks
from tests.support.stages import pack_rows

SETTINGS = RolloutSettings(
    groups=GroupPlan(2, 3),
    group=2,
    batch=4,
    epochs=1,
    max_tokens=4,
    seed=0,
    rule=SamplingRule(),
    advantage=GroupAdvantage.MEAN,
    overlong_tokens=None,
    max_missing_reward_ratio=0.5,
)
ASKED = [{"role": "system", "content": "Reckon."}, user("2 + 3?")]
NOTED: dict[str, list[Any]] = {}


@pytest.fixture(scope="module")
def world() -> Iterator[DistributedContext]:
    with distributed.init_distributed(RankEnvironment(0, 1, 0, None), Backend.GLOO) as opened:
        yield opened


class Prompts:
    def at(self, place: int) -> Prompt:
        return Prompt(place, np.array([place, 5], dtype=np.int64), {"answer": str(place)})


@dataclass
class Drawer:
    """Draws [prompt, sibling], and may be stopped."""

    replica_count: int = 1
    replica_index: int = 0
    is_leader: bool = True
    ends: EndReason = EndReason.END
    drawn: list[tuple[int, int]] = field(default_factory=list)
    most: set[int] = field(default_factory=set)  # tokens that were asked for

    @contextmanager
    def open_generator(self, step: int) -> Iterator[Any]:
        def draw(requests: Sequence[GenerationRequest], between: Any) -> Iterator[GeneratedAnswer]:
            for number, request in enumerate(requests):
                self.drawn.append((request.prompt, request.sibling))
                self.most.add(request.most)
                tokens = [request.prompt, request.sibling]
                yield GeneratedAnswer(request, tokens, [-1.0, -1.0], [-2.0, -2.0], self.ends)
                if between(2 * number + 2):
                    return

        yield draw


@dataclass
class Told:
    """Outcomes that come one by one."""

    outcomes: list[RewardResult]
    answered: list[tuple[str, SampleKey]]

    @property
    def is_done(self) -> bool:
        return not self.outcomes

    def poll(self, seconds: float) -> list[RewardResult]:
        """None has come where nobody waits."""
        if not seconds:
            return []
        told = self.outcomes.pop(0)
        self.answered.append((told.reward, told.key))
        return [told]


@dataclass
class Judge:
    """Rewards siblings differently but for prompts that are `dull`; of some it has none."""

    dull: frozenset[int] = frozenset()
    weights: Mapping[str, float] = field(default_factory=lambda: {"right": 1.0, "tidy": 0.5})
    answered: list[tuple[str, SampleKey]] = field(default_factory=list)
    away: bool = False  # whom "tidy" asks

    def submit(self, samples: Sequence[RolloutSample], known: Mapping[SampleKey, Any]) -> Told:
        outcomes = []
        for sample in samples:
            for name in self.weights:
                if name in known.get(sample.key, {}):
                    continue
                worth = 1.0 if sample.key.prompt in self.dull else float(sample.key.sibling)
                silent = name == "tidy" and sample.key == SampleKey(4, 11, 1)
                told = Unrewarded("it slept") if silent else worth
                if self.away and name == "tidy":
                    told = Unrewarded("it raised ConnectionError: 503", settled=False)
                outcomes.append(RewardResult(sample.key, name, told))
        return Told(outcomes, self.answered)


@dataclass
class Stops:
    """Says stop at the given look, and at none where there is none."""

    at: int | None = None
    looks: int = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.at is not None and self.looks >= self.at


def gather(
    folder: Path,
    world: DistributedContext,
    drawer: Drawer,
    judge: Judge,
    stops: Stops,
    number: int,
    settles: bool = False,
    model: Any = None,
    prompts: Any = None,
    stop: tuple[str, ...] = (),
) -> CollectedRollout | None:
    """As generation `number` does."""
    place = LocalFolder(str(folder))
    written = Journal(place, GenerationId(epoch=1, number=number), 0)
    collector = RolloutCollector(
        replace(SETTINGS, stop=stop),
        prompts or Prompts(),
        drawer,
        judge,
        written,
        place,
        world,
        Reporter(AgentClient(), world),
        Stopwatch(lambda: 0.0),
        text_of=lambda tokens: " ".join(map(str, tokens)),
        stopping=stops,
        model=model,
    )
    found = collector.collect(4, 10, JournalKey("key"))
    if found is not None and settles:
        collector.record_unsettled(found)
    written.close()
    return found


@pytest.mark.parametrize("at", range(1, 22, 2))
def test_nothing_is_drawn_or_asked_twice_wherever_it_is_stopped(
    at: int, world: DistributedContext, tmp_path: Path
) -> None:
    drawer, judge = Drawer(), Judge(dull=frozenset({10}))
    first = gather(tmp_path, world, drawer, judge, Stops(at), 1)
    found = first or gather(tmp_path, world, drawer, judge, Stops(), 2)
    assert found is not None
    assert found.places == [12, 13] and found.asked == 4, "10 teaches nothing, and of 11 one counts alone"
    assert sorted(drawer.drawn) == [(place, sibling) for place in range(10, 14) for sibling in (0, 1)]
    assert len(judge.answered) == len(set(judge.answered)) == 16
    assert found.sums[SampleKey(4, 12, 1)] == 1.5
    assert isinstance(found.sums[SampleKey(4, 11, 1)], Unrewarded), "what did not answer is settled too"


class Late(Told):
    """One more comes just behind the look with which a stop is heard, while ranks agree on that."""

    looks = 0

    def poll(self, seconds: float) -> list[RewardResult]:
        self.looks += not seconds
        return super().poll(seconds or self.looks - 1.0)


class LateJudge(Judge):
    """Asks as Judge does."""

    def submit(self, samples: Sequence[RolloutSample], known: Mapping[SampleKey, Any]) -> Told:
        return Late(super().submit(samples, known).outcomes, self.answered)


def test_what_is_answered_while_ranks_agree_to_stop_is_kept(
    world: DistributedContext, tmp_path: Path
) -> None:
    drawer, judge = Drawer(), LateJudge()
    assert gather(tmp_path, world, drawer, judge, Stops(6), 1) is None
    kept = journal.read_rollout(LocalFolder(str(tmp_path)), 4, JournalKey("key")).rewards
    assert len(judge.answered) == 2, "one before the stop, and one behind it"
    assert {(name, key) for key, told in kept.items() for name in told} == set(judge.answered)


class Lazy(Drawer):
    """Leaves the last answer out, though nobody asked for that."""

    @contextmanager
    def open_generator(self, step: int) -> Iterator[Any]:
        with super().open_generator(step) as draw:
            yield lambda requests, between: draw(requests[:-1], between)


class Mute(Judge):
    """Says nothing of the last answer, though nobody asked for that."""

    def submit(self, samples: Sequence[RolloutSample], known: Mapping[SampleKey, Any]) -> Told:
        return super().submit(samples[:-1], known)


@pytest.mark.parametrize(
    ("drawer", "judge", "what"),
    [
        pytest.param(Lazy(), Judge(), "drawn", id="drawing"),
        pytest.param(Drawer(), Mute(), "rewarded", id="scoring"),
    ],
)
def test_what_is_missing_without_a_stop_is_an_error_that_names_it(
    drawer: Drawer, judge: Judge, what: str, world: DistributedContext, tmp_path: Path
) -> None:
    with pytest.raises(TrainerError, match=f"answer 1 to prompt 11 at step 4 should have been {what}"):
        gather(tmp_path, world, drawer, judge, Stops(), 1)


class Slow(Drawer):
    """Takes longer for its first answers than ranks wait in a collective."""

    @contextmanager
    def open_generator(self, step: int) -> Iterator[Any]:
        if not self.drawn:
            time.sleep(1.2)
        with super().open_generator(step) as draw:
            yield draw


def drawn_late_on_one(folder: Path) -> int:
    with distributed.init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        dist.barrier(group=world.background)
        short = dist.new_group(backend="gloo", timeout=timedelta(seconds=1))
        assert isinstance(short, dist.ProcessGroup)
        drawer = (Slow if world.rank else Drawer)(replica_count=2, replica_index=world.rank)
        found = gather(folder, replace(world, everybody=short), drawer, Judge(), Stops(), 1)
        return 0 if found is None else len(found.kept.samples)


def test_who_has_drawn_its_share_waits_for_longer_than_for_a_collective(tmp_path: Path) -> None:
    assert run_ranks(drawn_late_on_one, 2, tmp_path) == [6, 6]


class Looking(Judge):
    """Notes what it is asked about."""

    def __init__(self, seen: list[RolloutSample]) -> None:
        super().__init__()
        self._seen = seen

    def submit(self, samples: Sequence[RolloutSample], known: Mapping[SampleKey, Any]) -> Told:
        self._seen.extend(samples)
        return super().submit(samples, known)


def test_rewards_see_the_answer_without_its_end_and_the_columns_of_the_prompt(
    world: DistributedContext, tmp_path: Path
) -> None:
    seen: list[RolloutSample] = []
    gather(tmp_path, world, Drawer(), Looking(seen), Stops(), 1)
    sample = next(sample for sample in seen if sample.key == SampleKey(4, 11, 0))
    assert (sample.prompt, sample.answer, list(sample.tokens)) == ("11 5", "11", [11, 0])
    assert (sample.end, sample.columns) == ("end", {"answer": "11"})


@pytest.mark.parametrize(
    ("ends", "stop", "answer"),
    [
        pytest.param(EndReason.STOP, ("1 0",), "1", id="the-stop-text"),
        pytest.param(EndReason.STOP, ("0", "never", "1 0"), "1", id="the-first-of-them"),
        pytest.param(EndReason.STOP, ("11",), "", id="all-of-it"),
        pytest.param(EndReason.LENGTH, (), "11 0", id="nothing"),
    ],
)
def test_rewards_see_the_answer_without_the_text_that_stopped_it(
    ends: EndReason, stop: tuple[str, ...], answer: str, world: DistributedContext, tmp_path: Path
) -> None:
    seen: list[RolloutSample] = []
    gather(tmp_path, world, Drawer(ends=ends), Looking(seen), Stops(), 1, stop=stop)
    sample = next(sample for sample in seen if sample.key == SampleKey(4, 11, 0))
    assert (sample.answer, list(sample.tokens), sample.end) == (answer, [11, 0], ends)


def notes_all(**columns: list[Any]) -> list[float]:
    """A reward function that notes all that it is given."""
    NOTED.update(columns)
    return [0.0] * len(columns["texts"])


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        pytest.param(ASKED, [{"role": "assistant", "content": "10"}], id="conversation"),
        pytest.param("Reckon 2 + 3.", "10", id="text"),
    ],
)
def test_a_function_gets_prompts_and_answers_in_the_shape_of_the_packed_row(
    prompt: Any, answer: Any, world: DistributedContext, tmp_path: Path
) -> None:
    shards = pack_rows([{"prompt": prompt, "answer": "5"}], tmp_path, format=RecordKind.PROMPTS)
    order = PromptOrder(PromptDataset(TokenShards.open(str(shards)), 64), seed=0)
    function = {"kind": "function", "name": f"{__name__}:notes_all", "field": "f"}
    judge = open_scorer({**function, "columns": order.columns})
    seen: list[RolloutSample] = []
    gather(tmp_path, world, Drawer(), Looking(seen), Stops(), 1, prompts=order)
    judge([to_json(next(sample for sample in seen if sample.key == SampleKey(4, 10, 0)))])
    given = [NOTED[name] for name in ("prompts", "completions", "texts", "answer")]
    assert given == [[prompt], [answer], ["10"], ["5"]]


@pytest.mark.parametrize("settles", [pytest.param(False, id="refused"), pytest.param(True, id="trained-on")])
def test_who_did_not_answer_is_asked_again_until_the_rollout_is_trained_on(
    settles: bool, world: DistributedContext, tmp_path: Path
) -> None:
    drawer, back = Drawer(), Judge()
    first = gather(tmp_path, world, drawer, Judge(away=True), Stops(), 1, settles)
    assert first is not None and all(isinstance(told, Unrewarded) for told in first.sums.values())
    drawn = len(drawer.drawn)
    found = gather(tmp_path, world, drawer, back, Stops(), 2)
    assert found is not None and len(drawer.drawn) == drawn, "no answer is drawn again"
    if settles:
        assert back.answered == [] and found.sums == first.sums
    else:
        asked = [key for group in found.keys(SETTINGS.group) for key in group]
        assert set(back.answered) >= {("tidy", key) for key in asked}
        assert {name for name, _ in back.answered} == {"tidy"}, "what answered is known"
        assert len(set(back.answered)) == len(back.answered)


@dataclass
class Scores:
    """A reward model that scores an answer by which sibling it is."""

    weight: float = 2.0
    room_left: int = 9

    def max_answer_tokens(self, prompt: Prompt) -> int:
        return self.room_left

    def complete(self, kept: RolloutState, keys: Sequence[SampleKey], stopping: Callable[[], bool]) -> bool:
        kept.add([RewardsRecord(key, kept.samples[key].mark, {MODEL: float(key.sibling)}) for key in keys])
        return True


@pytest.mark.parametrize(("room", "most"), [pytest.param(9, 4, id="enough"), pytest.param(3, 3, id="less")])
def test_an_answer_leaves_room_for_what_its_reward_model_reads_behind_it(
    room: int, most: int, world: DistributedContext, tmp_path: Path
) -> None:
    drawer, judge = Drawer(), Judge(weights={})
    found = gather(tmp_path, world, drawer, judge, Stops(), 1, model=Scores(room_left=room))
    assert drawer.most == {most}
    assert found is not None and found.sums[SampleKey(4, 10, 1)] == 2.0
