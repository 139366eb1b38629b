"""What stages do on real data: each command of bench/posttraining that shows it runs, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.posttraining import perl_answers
from bench.posttraining.judged_sentences import Pair, Sentence, one_human, pairs, split
from bench.posttraining.stage_runs import mcnemar
from bench.posttraining.word_counts import ridge_accuracy

ROOT = Path(__file__).parents[2]


def run(show: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command; 1 says that a bar was missed."""
    ended = subprocess.run(
        [sys.executable, "-m", f"bench.posttraining.{show}", *options],
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=ROOT,
    )
    assert ended.returncode in (0, 1), ended.stderr
    assert "bar" in ended.stdout and "Traceback" not in ended.stderr
    return ended


@pytest.mark.long  # packages are fetched once, then 10 s each
@pytest.mark.parametrize("show", ["human_judgements", "human_preferences", "human_feedback", "arithmetic"])
def test_a_show_runs(show: str) -> None:
    run(show, "--smoke")  # so short a run may miss its bar


@pytest.mark.long  # 20 s of a core
def test_what_a_model_has_read_helps_it_to_learn() -> None:
    whole = run("transfer")
    assert whole.returncode == 0, whole.stdout


@pytest.mark.long  # 100 MB are fetched once; minutes of a core
def test_a_chat_model_learns_and_transformers_answers_with_its_export(tmp_path: Path) -> None:
    seen = perl_answers.show(tmp_path)
    assert seen.rendered_alike, "shards hold the ids of the exported template"
    assert seen.before.loss - seen.after.loss >= perl_answers.FALL
    assert seen.adapter_loss == pytest.approx(seen.after.loss, abs=1e-4), "merged, and alone"
    assert seen.after.ended >= perl_answers.ENDED
    assert seen.answered_alike == perl_answers.HELD_OUT, "here as in transformers"


def sentences() -> list[Sentence]:
    return [
        Sentence(kind, f"{word} {kind} {number}", (mean, mean + number % 2))
        for number in range(40)
        for kind in ("film", "tweet")
        for word, mean in (("good", 2), ("fair", 1), ("bad", -2))
    ]


def test_pairs_are_of_one_kind_and_apart() -> None:
    found = pairs(sentences())
    assert found
    assert all(pair.chosen.kind == pair.rejected.kind for pair in found)
    assert all(pair.chosen.mean - pair.rejected.mean >= 1 for pair in found)


def test_no_sentence_is_learnt_and_held_out() -> None:
    chosen = split(sentences())
    assert len(chosen.held_out) == 24 and len(chosen.learnt) == 216
    assert not set(chosen.learnt) & set(chosen.held_out)
    assert chosen == split(sentences()), "each time the same"


def test_words_tell_what_they_can() -> None:
    chosen = split(sentences())
    assert ridge_accuracy(pairs(chosen.learnt), pairs(chosen.held_out)) == 1


def test_a_rater_may_tie() -> None:
    pair = Pair(Sentence("film", "good", (1,)), Sentence("film", "bad", (1,)))
    assert one_human([pair]) == 0.5


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(17, 10, 0.247788), (0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024)],
)
def test_mcnemars_exact_p(won: int, lost: int, p: float) -> None:
    assert mcnemar(won, lost) == pytest.approx(p, abs=1e-6)
    assert mcnemar(lost, won) == mcnemar(won, lost)
