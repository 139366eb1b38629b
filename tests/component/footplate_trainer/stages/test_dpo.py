"""dpo on real ranks: whole runs, whatever their reference, and what it says of wrong data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from footplate_contracts.directives import NumberedLimits
from footplate_contracts.names import ExitCode
from footplate_contracts.reports import RankPhase
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.layout_list import LLAMA, PLAIN_ADAPTER
from tests.support.ranks import run_ranks
from tests.support.stages import CONTEXT, PAIRS_CONTEXT, pack_chats, pack_preferences, pack_ratings
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

DPO = ("stage=dpo", f"model.contextLength={PAIRS_CONTEXT}")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_preferences(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_ratings(tmp_path_factory.mktemp("rated"))


def run(shards: Path, folder: Path, *overrides: str, ranks: int = 1, agent: FakeAgent | None = None) -> Ended:
    """A whole run, as its first rank saw it."""
    config = tiny_config(shards, folder, (*DPO, *overrides))
    end: Ended = run_ranks(train_under, ranks, agent or FakeAgent(), config)[0]
    return end


def losses(end: Ended) -> list[float]:
    assert end.code in (ExitCode.SUCCESS, ExitCode.SUSPENDED), end.stderr
    return [row.loss for row in end.agent.rows]


def test_a_whole_run_tells_rewards_and_accuracy_of_its_pairs_and_of_held_out_ones(
    pairs: Path, tmp_path: Path
) -> None:
    end = run(pairs, tmp_path, f"validation={{everySteps: 6, uri: {pairs}, batches: 2}}")
    assert end.code == ExitCode.SUCCESS, end.stderr
    first, last = end.agent.rows[0], end.agent.rows[-1]
    assert first.loss == pytest.approx(0.693147180559945, abs=1e-12)
    names = {"rewards/chosen", "rewards/rejected", "accuracy", "margin"}
    assert first.values == dict.fromkeys(names, 0.0), "the model is its reference, and equal ones are wrong"
    assert last.values is not None
    assert last.values.keys() == names | {f"validation/{name}" for name in names}
    assert last.values["accuracy"] == last.values["validation/accuracy"] == 1.0
    assert last.values["margin"] == pytest.approx(
        last.values["rewards/chosen"] - last.values["rewards/rejected"], rel=1e-9
    )
    assert last.validation_loss is not None and last.validation_loss < 0.5


@dataclass
class CommitsMeanwhile(FakeAgent):
    """What `there` has and `here` lacks is there once weights are loaded, and the reference is not yet."""

    there: Path = Path()
    here: Path = Path()

    def limits(self) -> NumberedLimits | None:
        for folder in (self.there, *(path for path in self.there.rglob("*") if path.is_dir())):
            (self.here / folder.relative_to(self.there)).mkdir(exist_ok=True)
        for file in (path for path in self.there.rglob("*") if path.is_file()):
            if not (copy := self.here / file.relative_to(self.there)).exists():
                shutil.copyfile(file, copy)
        return super().limits()


@pytest.mark.parametrize("field", ["resumeFrom", "initFrom"])
def test_the_reference_is_where_the_run_began_though_the_other_run_goes_on(
    field: str, pairs: Path, tmp_path: Path
) -> None:
    for steps, folder in ((2, "short"), (6, "long")):
        losses(run(pairs, tmp_path / folder, f"training.steps={steps}"))
    short, long = (tmp_path / folder / "checkpoints" for folder in ("short", "long"))
    meanwhile = CommitsMeanwhile(there=long, here=short)
    end = run(pairs, tmp_path / "run", f"{field}={{uri: {short}}}", "training.steps=2", agent=meanwhile)
    assert losses(end)[0] == pytest.approx(0.693147180559945, abs=1e-12)
    assert 6 in CheckpointStore(short).steps()


def _goes_on(overrides: Sequence[str], shards: Path, folder: Path) -> None:
    """Suspended in the middle and begun again, `overrides` give what they give undisturbed."""
    whole = losses(run(shards, folder / "whole", *overrides))
    before = run(shards, folder / "part", *overrides, agent=FakeAgent(suspend_after=3))
    after = run(shards, folder / "part", *overrides)
    assert before.code == ExitCode.SUSPENDED and len(after.agent.rows) < len(whole)
    assert losses(before) + losses(after) == whole


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param((), id="frozen-copy"),
        pytest.param(("preference.reference={precomputed: true}",), id="precomputed"),
        pytest.param(PLAIN_ADAPTER, id="adapters", marks=pytest.mark.long),
    ],
)
def test_a_run_that_goes_on_has_the_reference_that_it_began_with(
    overrides: tuple[str, ...], pairs: Path, tmp_path: Path
) -> None:
    _goes_on(overrides, pairs, tmp_path)


@pytest.mark.parametrize(
    "model", [pytest.param(LLAMA, id="copy"), pytest.param(PLAIN_ADAPTER, id="adapters")]
)
def test_what_is_computed_before_the_first_step_is_what_each_step_would_compute(
    model: tuple[str, ...], pairs: Path, tmp_path: Path
) -> None:
    live = run(pairs, tmp_path / "live", *model)
    beforehand = run(pairs, tmp_path / "before", *model, "preference.reference={precomputed: true}")
    assert losses(beforehand) == pytest.approx(losses(live), rel=0, abs=1e-6)
    phases = [report.phase for report in beforehand.agent.reports]
    assert RankPhase.SCORING in phases[: phases.index(RankPhase.COMPUTE)]
    assert RankPhase.SCORING not in phases[phases.index(RankPhase.COMPUTE) :]
    assert RankPhase.SCORING not in [report.phase for report in live.agent.reports]


def test_what_was_computed_for_other_weights_is_computed_anew(pairs: Path, tmp_path: Path) -> None:
    beforehand = ("preference.reference={precomputed: true}", "training.steps=2")
    folder = tmp_path / "checkpoints"

    def kept() -> set[str]:
        return {file.name for file in folder.iterdir() if file.name.startswith("reference-")}

    def scored(end: Ended) -> bool:
        assert end.code == ExitCode.SUCCESS, end.stderr
        return RankPhase.SCORING in [report.phase for report in end.agent.reports]

    def begin_again() -> None:
        for file in folder.glob("step-*.committed"):
            file.unlink()

    assert scored(run(pairs, tmp_path, *beforehand))
    first = kept()
    assert len(first) == 2, "numbers, and what they are of"
    begin_again()
    assert not scored(run(pairs, tmp_path, *beforehand)), "weights and data are the same"
    begin_again()
    assert scored(run(pairs, tmp_path, *beforehand, "training.seed=5"))
    second = kept()
    assert len(second) == 2 and not first & second
    begin_again()
    [numbers] = [folder / name for name in second if name.endswith(".f64")]
    numbers.write_bytes(numbers.read_bytes()[:-8] + bytes(8))
    assert scored(run(pairs, tmp_path, *beforehand, "training.seed=5")), "what is damaged does not count"


@pytest.mark.parametrize(
    ("overrides", "data", "says"),
    [
        pytest.param(
            (), "chats", "stage dpo is trained on data packed with --format preferences, but", id="chats"
        ),
        pytest.param(
            ("preference.loss=kto",),
            "pairs",
            "stage dpo with loss kto is trained on data packed with --format ratings, but",
            id="pairs-for-kto",
        ),
        pytest.param((f"model.contextLength={CONTEXT}",), "pairs", "than contextLength 96 tokens", id="long"),
        pytest.param(
            ("preference.reference={uri: /nowhere}",),
            "pairs",
            "preference.reference.uri /nowhere: is neither a folder of weights, as it has no config.json",
            id="no-reference",
        ),
    ],
)
def test_what_does_not_suit_the_run_ends_it_before_the_first_step(
    overrides: tuple[str, ...], data: str, says: str, pairs: Path, tmp_path: Path
) -> None:
    shards = pairs if data == "pairs" else pack_chats(tmp_path)
    end = run(shards, tmp_path, *overrides)
    assert (end.code, end.agent.rows) == (ExitCode.CONFIG, [])
    assert says in end.stderr and "Traceback" not in end.stderr
