"""Reward functions in processes of their own: what they do to themselves, and to nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from footplate_contracts.v1alpha1.reward import RewardFunction
from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.reward_functions import RewardFunctions
from footplate_trainer.rewards.reward_samples import Outcome, RewardResult, RolloutSample, Unrewarded
from tests.support.rewards.samples import outcomes, own, reward, samples

FOLDER = Path(__file__).parents[3] / "support" / "rewards"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(FOLDER),
    "MASTER_ADDR": "10.0.0.7",
    "FOOTPLATE_RUN_TOKEN_FILE": "/etc/footplate/run/token",
    "AWS_SECRET_ACCESS_KEY": "of the storage",
    "FOOTPLATE_REWARD_SECRET_JUDGE_KEY": "only for the judge",
}
Start = Callable[..., RewardFunctions]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts functions, whose processes end with the test."""
    with ExitStack() as running:

        def started(*functions: RewardFunction, **settings: object) -> RewardFunctions:
            settings = {"columns": ["answer", "folder"], "max_tokens": 100, **settings}
            environment = dict(ENVIRONMENT)
            return running.enter_context(RewardFunctions(functions, environment=environment, **settings))

        yield started


def rewards(
    functions: RewardFunctions, batch: list[RolloutSample], name: str | None = None
) -> list[float | str]:
    """The outcome of each sample by the one function that there is, or by `name`: a number, or why none."""
    asked = functions.submit(batch)
    found = {told.key: told.outcome for told in outcomes(asked) if name in (None, told.reward)}
    return [_plain(found[sample.key]) for sample in batch]


def _plain(outcome: Outcome) -> float | str:
    return outcome.reason if isinstance(outcome, Unrewarded) else outcome


def ends(process: int) -> bool:
    """Waits until `process` is no more, or is only waited for."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("function", "said"),
    [
        pytest.param("raises", "it raised ValueError: a bad answer, in two lines", id="raises"),
        pytest.param("exits", "its process ended with code 3", id="os-exit"),
        pytest.param("leaves", "it raised SystemExit: enough", id="sys-exit"),
        pytest.param("dies", "its process was ended by SIGSEGV", marks=pytest.mark.long, id="segfault"),
        pytest.param("not_a_number", "it returned NaN", id="nan"),
        pytest.param("huge", "it returned -1e+308, beyond ±1e+12", id="huge"),
        pytest.param(
            "closes", "its process ended with code 1", marks=pytest.mark.long, id="closes-all-files"
        ),
        pytest.param(
            "closes_and_stays",
            "it closed an internal socket",
            marks=pytest.mark.long,
            id="closes-all-files-and-stays",
        ),
        pytest.param(
            "scribbles",
            "it used an internal socket",
            marks=pytest.mark.long,
            id="writes-to-all-files",
        ),
        pytest.param("leaks", "it needed more memory than its process's limit of 4 GiB", id="leaks"),
    ],
)
def test_only_the_sample_that_is_to_blame_goes_unrewarded(start: Start, function: str, said: str) -> None:
    found = rewards(start(own(function)), samples("a", "b", "bad", "c"))
    name = function.replace("_", "-")
    assert isinstance(found[2], str) and found[2].startswith(
        f"reward {name}: answer 0 to prompt 2 at step 1: "
    )
    assert said in found[2]
    assert all(isinstance(number, float) and number >= 0 for number in (*found[:2], found[3]))


def test_an_expression_that_takes_for_ever_is_ended(start: Start) -> None:
    backtracks = reward("form", regularExpression={"pattern": "(a+)+$"}, timeoutSeconds=1)
    found = rewards(start(backtracks), samples("a", "a" * 60 + "b", "aa", "b"))
    assert found[0] == 1.0 and found[2:] == [1.0, 0.0]
    assert found[1] == "reward form: answer 0 to prompt 1 at step 1: it returned nothing within 1 s"


def test_mathematics_that_take_for_ever_are_ended(start: Start) -> None:
    batch = samples("it is $\\frac{10}{2}$", "$9^{9^{9^9}}$", "4", answer="5")
    found = rewards(start(reward("equal", mathVerify={}, timeoutSeconds=3)), batch)
    assert found == [1.0, "reward equal: answer 0 to prompt 1 at step 1: it returned nothing within 3 s", 0.0]


def test_a_function_that_sleeps_is_ended_and_started_again(start: Start, tmp_path: Path) -> None:
    functions = start(own("sleeps", timeoutSeconds=1))
    found = rewards(functions, samples("a", "bad", folder=str(tmp_path)))
    assert found[0] == 1.0 and "prompt 1 at step 1: it returned nothing within 1 s" in str(found[1])
    assert ends(int((tmp_path / "asleep").read_text()))
    assert rewards(functions, samples("a", "b", step=2, folder=str(tmp_path))) == [1.0, 1.0]


def test_what_is_slow_keeps_nobody_waiting(start: Start, tmp_path: Path) -> None:
    functions = start(own("sleeps"), own("right"), reward("long", length={}))
    batch = samples("bad", "5", answer="5", folder=str(tmp_path))
    asked = functions.submit(batch)
    quick: list[RewardResult] = []
    while len(quick) < 4:
        quick += asked.poll(60)
    assert {(told.reward, told.key.prompt): told.outcome for told in quick} == {
        ("right", 0): 0.0,
        ("right", 1): 1.0,
        ("long", 0): 0.03,
        ("long", 1): 0.01,
    }
    assert not asked.is_done and asked.poll(0) == []


def test_what_is_under_way_is_left_at_the_end(start: Start, tmp_path: Path) -> None:
    functions = start(own("sleeps"))
    functions.submit(samples("bad", folder=str(tmp_path)))
    while not (tmp_path / "asleep").exists():
        time.sleep(0.01)
    functions.close()
    assert ends(int((tmp_path / "asleep").read_text() or 0))


def test_an_async_function_waits_for_all_at_once(start: Start) -> None:
    functions = start(own("waits", timeoutSeconds=20))
    assert rewards(functions, samples(*["ab"] * 500)) == [2.0] * 500
    assert rewards(functions, samples("a", step=2)) == [1.0]


def test_what_is_known_is_not_asked_again(start: Start, tmp_path: Path) -> None:
    functions = start(own("counts"), own("right"))
    batch = samples("a", "bb", "ccc", answer="a", folder=str(tmp_path))
    known = {batch[0].key: {"counts": 1.0}, batch[2].key: {"counts": Unrewarded("it was bad"), "right": 0.0}}
    asked = functions.submit(batch, known)
    found = {(told.reward, told.key.prompt): told.outcome for told in outcomes(asked)}
    assert found == {("counts", 1): 2.0, ("right", 0): 1.0, ("right", 1): 0.0}
    assert (tmp_path / "asked").read_text() == "bb\n"


def test_a_reward_that_all_is_known_of_is_not_asked(start: Start) -> None:
    functions = start(own("raises"), own("right"))
    batch = samples("5", answer="5")
    asked = functions.submit(batch, {batch[0].key: {"raises": 1.0}})
    assert [(told.reward, told.outcome) for told in outcomes(asked)] == [("right", 1.0)]
    assert functions.submit(batch, {batch[0].key: {"raises": 1.0, "right": 1.0}}).is_done
    assert functions.submit([]).is_done


def test_too_few_numbers_reward_nobody(start: Start) -> None:
    found = rewards(start(own("too_few")), samples("a", "b"))
    assert all("it returned 1 numbers for 2 samples" in str(reason) for reason in found)


def test_what_it_prints_is_logged_in_bounds(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    functions = start(own("prints"))
    assert rewards(functions, samples("a")) == [1.0]
    functions.close()
    deadline = time.monotonic() + 60
    while "is dropped" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    printed = [record.getMessage() for record in caplog.records if "prints: " in record.getMessage()]
    assert printed[0].startswith("reward prints prints: line 0 xxx")
    assert len(printed) == 1001 and printed[-1].endswith("… further output is dropped")


def test_a_child_answers_for_nobody_and_outlives_nobody(start: Start, tmp_path: Path) -> None:
    functions = start(own("forks"))
    for step in (1, 2):
        assert rewards(functions, samples("a", "b", step=step, folder=str(tmp_path))) == [1.0, 1.0]
    functions.close()
    assert ends(int((tmp_path / "child").read_text()))


def test_it_sees_its_own_secrets_and_nothing_of_the_rank(start: Start, tmp_path: Path) -> None:
    held = (tmp_path / "held").open("w")
    os.set_inheritable(held.fileno(), True)
    judge = reward("looks", function={"name": "wrong:looks", "secrets": ["JUDGE_KEY"]})
    rewards(start(judge), samples("a", folder=str(tmp_path)))
    environment, files = json.loads((tmp_path / "seen").read_text())
    assert environment.pop("JUDGE_KEY") == "only for the judge"
    # Python sets LC_CTYPE by itself where no other locale is asked for.
    assert environment.keys() - {"LC_CTYPE"} == {
        "PATH",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "CUDA_VISIBLE_DEVICES",
    }
    assert str(tmp_path / "held") not in files
    assert sum(file.startswith("socket:") for file in files) == 1
    held.close()


def test_its_secrets_are_in_no_line_and_in_no_reason(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    judge = reward("tells", function={"name": "wrong:tells_its_key", "secrets": ["JUDGE_KEY"]})
    functions = start(judge)
    for found in (rewards(functions, samples("a")), rewards(functions, samples("bad", step=2))):
        assert "***" in str(found) and "only" not in str(found)
    functions.close()
    deadline = time.monotonic() + 60
    while caplog.text.count("calling with ***") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert caplog.text.count("calling with ***") == 2 and "only" not in caplog.text


def test_secrets_are_taken_out_of_the_environment_and_given_to_whom_they_are_named() -> None:
    environment = dict(ENVIRONMENT)
    judge = reward("right", function={"name": "wrong:right", "secrets": ["JUDGE_KEY"]})
    with RewardFunctions([judge], columns=["answer"], max_tokens=1, environment=environment):
        assert "only for the judge" not in environment.values()
        assert environment["AWS_SECRET_ACCESS_KEY"] == "of the storage"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("nowhere:score", "no module nowhere; add it to the image", id="no-module"),
        pytest.param("wrong:absent", "module 'wrong' has no attribute 'absent'", id="no-function"),
        pytest.param("wrong:number", "is int, not a function", id="no-function-but-a-number"),
        pytest.param(
            "wrong:wants",
            "requires difficulty, which is neither passed by a rollout (prompts, completions, prompt_ids, "
            "completion_ids, texts, ends) nor a column of the prompts (answer, folder)",
            id="another-column",
        ),
        pytest.param("raises_at_import:score", "importing it raised RuntimeError: no licence", id="raises"),
        pytest.param("exits_at_import:score", "its process ended with code 7", id="exits"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_anybody_trains(
    start: Start, name: str, said: str
) -> None:
    with pytest.raises(UserMistake) as refused:
        start(own("right"), reward("second", function={"name": name}))
    assert str(refused.value).startswith(f"reward.functions[1].function.name {name}")
    assert said in str(refused.value)


KILLED = """
import sys
from footplate_trainer.rewards.reward_functions import RewardFunctions
from tests.support.rewards.samples import own, samples
functions = RewardFunctions([own("sleeps")], columns=["folder"], max_tokens=1)
functions.submit(samples("bad", folder=sys.argv[1]))
sys.stdin.read()
"""


def test_a_function_ends_with_its_rank(tmp_path: Path) -> None:
    here = str(Path(__file__).parents[4])
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": os.pathsep.join((str(FOLDER), here))}
    rank = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, env=environment
    )
    while not (tmp_path / "asleep").exists() and rank.poll() is None:
        time.sleep(0.01)
    rank.kill()
    rank.communicate()
    assert ends(int((tmp_path / "asleep").read_text()))
