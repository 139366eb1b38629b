"""ppo on human judgements: what a model of film reviews learns from a reward model of people's ratings.

    .venv/bin/python -m bench.posttraining.human_feedback [--folder FOLDER] [--judge FOLDER]

The model that writes film reviews and the reward model are those of
`bench.posttraining.human_judgements` (`--judge`: the folder that it left, else both are
trained first). Prompts are the first words of reviews; held-out ones, of reviews that
neither model has seen, are answered before and after, one answer each, drawn at
temperature 1. Answers are judged by the reward model, in deviations of its held-out
scores, and by the lexicon of the package vaderSentiment, which no reward has seen.
p is that of a sign test of the prompts whose two answers differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from bench.posttraining.exported_models import Answered, log_probabilities, scores
from bench.posttraining.film_model import film_writer, prepare
from bench.posttraining.human_judgements import judge
from bench.posttraining.judged_sentences import PACKAGE, Sentence, prompt_of, read_sentences, split
from bench.posttraining.packages import interpreter_with
from bench.posttraining.stage_runs import (
    MODEL,
    Trained,
    command,
    opened_folder,
    run_stage,
    show_parser,
    sign_test,
    training,
    write_rows,
)
from tokenizers import Tokenizer

from footplate_trainer.commands.prompt_file import tokenize_prompt

WORDS: Final = 3  # of a review, in a prompt
LONGEST: Final = 40  # tokens of an answer
HELD_OUT: Final = 500  # prompts
SAMPLES: Final = 128
TARGET: Final = 6.0  # nats an answer
STEPS: Final = 100
RATE: Final = 2e-4
CONSTANT: Final = {"name": "constant", "warmupSteps": 4}
DEVIATIONS, TIMES, SIGNIFICANT = 1.0, 2.0, 0.01  # bars: reward up, KL over its target, p
# Runs where that package is: reads one text a line as JSON, prints its sentiment from -1 to 1.
_PROGRAM: Final = """
import json, sys
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
judge = SentimentIntensityAnalyzer()
for line in sys.stdin:
    print(judge.polarity_scores(json.loads(line))["compound"])
"""


@dataclass(frozen=True)
class Judge:
    """The two models, and what the reward model's held-out scores are."""

    writer: Path  # an export
    checkpoints: Path  # of the writer
    reward: Path  # checkpoints
    exported: Path  # the reward model, as transformers reads it
    mean: float
    deviation: float


def train_judge(folder: Path, *, smoke: bool = False) -> None:
    """Both models, as `bench.posttraining.human_judgements` leaves them in `folder`."""
    judged = prepare(folder, smoke=smoke)
    writer = film_writer(folder, judged, smoke=smoke)
    judge(folder, judged, writer.folder, smoke=smoke)


def open_judge(folder: Path) -> Judge:
    """What `bench.posttraining.human_judgements` left in `folder`."""
    rows = [json.loads(line) for line in (folder / "judgements" / "rows.jsonl").read_text().splitlines()]
    values = next(row["values"] for row in reversed(rows) if "validation/score/mean" in row["values"])
    return Judge(
        folder / "films" / "model",
        folder / "films" / "checkpoints",
        folder / "judgements" / "checkpoints",
        folder / "judgements" / "model",
        values["validation/score/mean"],
        values["validation/score/deviation"],
    )


def beginnings(sentences: Sequence[Sentence]) -> list[str]:
    """The first words of the film reviews among them, each once, in their order."""
    films = [sentence.text.split() for sentence in sentences if sentence.kind == "film"]
    begun = (" ".join([prompt_of("film"), *words[:WORDS]]) for words in films if len(words) > WORDS)
    return list(dict.fromkeys(begun))


def taught(folder: Path, judge: Judge, tokenizer: Path, prompts: Sequence[str], *, smoke: bool) -> Trained:
    """The writer, once it has learnt what is rated higher."""
    file = write_rows(folder / "prompts.jsonl", ({"prompt": prompt} for prompt in prompts))
    context = MODEL["contextLength"]
    command("pack", file, folder / "prompts", "--format", "prompts", "--tokenizer", tokenizer,
            "--context-length", context)  # fmt: skip
    samples = 16 if smoke else SAMPLES
    spec: dict[str, Any] = {
        "stage": "ppo",
        "initFrom": {"uri": str(judge.writer)},
        "model": {"contextLength": context},
        "data": {"uri": str(folder / "prompts")},
        "rollout": {"maxTokens": LONGEST, "generationBatchSize": samples},
        "reward": {"uri": str(judge.reward)},
        "reinforcement": {
            "numIterations": 2,
            "kl": {"coefficient": 0.15, "target": TARGET, "horizon": 500},
            "missingEosPenalty": 1,
        },
        "training": training(4 if smoke else STEPS, samples, RATE) | {"schedule": CONSTANT},
    }
    return run_stage(folder, "taught", spec)


@dataclass(frozen=True)
class Answers:
    """What a model drew, one answer to each prompt, and what is thought of them."""

    answered: list[Answered]
    log_probabilities: list[float]  # of whole answers, of the model that drew them
    rewards: list[float]
    sentiments: list[float]
    truncated: int


def answers(folder: Path, checkpoints: Path, name: str, prompts: Sequence[str], judge: Judge) -> Answers:
    """Those of the model of `checkpoints`."""
    asked = write_rows(folder / "held-out.jsonl", ({"prompt": prompt} for prompt in prompts))
    file = folder / f"{name}.jsonl"
    command("generate", checkpoints, "--prompts", asked, "--output", file, "--temperature", 1,
            "--top-k", 0, "--max-new-tokens", LONGEST)  # fmt: skip
    told = [json.loads(line) for line in file.read_text().rstrip("\n").split("\n")]
    tokenizer = Tokenizer.from_file(str(judge.writer / "tokenizer.json"))
    answered = [
        (tokenize_prompt(tokenizer, prompt), answer["tokens"])
        for prompt, answer in zip(prompts, told, strict=True)
    ]
    words = len(prompt_of("film"))
    texts = [prompt[words:] + answer["text"] for prompt, answer in zip(prompts, told, strict=True)]
    return Answers(
        answered,
        [sum(answer["logProbabilities"]) for answer in told],
        scores(judge.exported, answered),
        sentiments(texts),
        sum(answer["reason"] == "length" for answer in told),
    )


def sentiments(texts: Sequence[str]) -> list[float]:
    """Of each text, what the lexicon says."""
    ended = subprocess.run(
        [interpreter_with(*PACKAGE), "-c", _PROGRAM],
        input="".join(json.dumps(text) + "\n" for text in texts),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(line) for line in ended.stdout.split()]


def main() -> int:
    """Print the table; 1 where a bar is missed."""
    parser = show_parser(__doc__)
    parser.add_argument("--judge", type=Path, help="a folder of bench.posttraining.human_judgements")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    with opened_folder(arguments) as folder:
        trained = arguments.judge
        if trained is None:
            trained = folder
            train_judge(trained, smoke=smoke)
        judge = open_judge(trained)
        sentences = split(read_sentences())
        held_out = beginnings(sentences.held_out)[: 20 if smoke else HELD_OUT]
        learnt = [prompt for prompt in beginnings(sentences.learnt) if prompt not in set(held_out)]
        before = answers(folder, judge.checkpoints, "before", held_out, judge)
        run = taught(folder, judge, trained / "tokenizer", learnt, smoke=smoke)
        after = answers(folder, run.checkpoints, "after", held_out, judge)
        as_before = log_probabilities(judge.writer, after.answered)
    print(f"prompts           {len(learnt)} to learn from, {len(held_out)} held out")
    reached = _judged(judge, before, after)
    kl = fmean(now - then for now, then in zip(after.log_probabilities, as_before, strict=True))
    most = max(row["values"]["kl/answer"] for row in run.rows)
    bar = TIMES * TARGET
    print(f"KL of an answer   {kl:.2f} at the end, at most {most:.2f} in a rollout  bar {bar:.1f}")
    print(f"ppo               {run.seconds:.0f} s, {run.cpu_seconds:.0f} of the CPU")
    return int(not reached or max(kl, most) > bar)


def _judged(judge: Judge, before: Answers, after: Answers) -> bool:
    """Print what is thought of both; whether the reward has risen enough, and the lexicon agrees."""
    both = before, after
    rewards = [(fmean(told.rewards) - judge.mean) / judge.deviation for told in both]
    lexicon = [fmean(told.sentiments) for told in both]
    of_rewards = sign_test(before.rewards, after.rewards)
    of_lexicon = sign_test(before.sentiments, after.sentiments)
    print(f"{'held out':20}{'before':>8}{'after':>8}{'rose':>8}{'fell':>8}  p")
    for name, means, (rose, fell, p) in (
        ("reward, deviations", rewards, of_rewards),
        ("lexicon", lexicon, of_lexicon),
    ):
        print(f"{name:20}{means[0]:8.3f}{means[1]:8.3f}{rose:8}{fell:8}  {p:.2g}")
    for name, numbers in (
        ("without an end", [float(told.truncated) for told in both]),
        ("tokens", [fmean(len(answer) for _, answer in told.answered) for told in both]),
    ):
        print(f"{name:20}{numbers[0]:8.1f}{numbers[1]:8.1f}")
    risen = rewards[1] - rewards[0]
    rose, fell, p = of_lexicon
    agrees = rose > fell and p < SIGNIFICANT
    print(f"reward risen      {risen:+.2f} deviations  bar {DEVIATIONS:.0f}")
    print(f"lexicon agrees    {'yes' if agrees else 'no'}  bar yes, p {SIGNIFICANT}")
    return risen >= DEVIATIONS and agrees


if __name__ == "__main__":
    sys.exit(main())
