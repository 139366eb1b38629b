"""sft with adapters of a real chat model on Perl's FAQ, and how `transformers` answers with what is exported.

    .venv/bin/python -m bench.posttraining.perl_answers [--folder FOLDER]

The model is SmolLM2-135M-Instruct, the rows are the questions of perl-doc whose answers are
short: a conversation of at most 256 tokens, and 192 where it is learnt. Held-out questions are in no
row that is learnt. A note of who contributed an answer is left out.
`transformers` opens the exported folder, renders them in its template, and goes on with the
likeliest tokens, as the folder's own generation settings have it; an answer ends where the
model ends its turn. The same is asked of the model before. Losses are of held-out answers, by
`transformers`, per token, the end of the turn among them.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench.posttraining.faq import length, questions
from bench.posttraining.smollm2 import smollm2
from bench.posttraining.stage_runs import (
    Trained,
    command,
    opened_folder,
    run_stage,
    show_parser,
    training,
    write_rows,
)
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards

FITTING: Final = 256  # tokens of a conversation
SHORT: Final = 192  # of one that is learnt
HELD_OUT: Final = 16
CONTEXT: Final = 1024  # of a sequence, in which conversations stand one behind another
STEPS: Final = 32
RATE: Final = 1e-3
RANK: Final = 16
ROOM: Final = 320  # tokens of an answer, at most; true ones that fit have 216
FALL: Final = 0.5  # nats
ENDED: Final = 14  # of the held-out questions

# A quarter of the answers begins with it. What learns it repeats it without an end.
_CREDIT: Final = re.compile(r"\A\([^()]*contributed by [^()]*\)\s*", re.IGNORECASE)

Talk = list[dict[str, str]]


@dataclass(frozen=True)
class Model:
    """What `transformers` makes of a folder."""

    loss: float  # of held-out answers
    answers: list[list[int]]  # to held-out questions, with the token that ends a turn where there is one
    ended: int  # answers with it


@dataclass(frozen=True)
class Seen:
    """What came of it."""

    run: Trained
    before: Model
    after: Model
    adapter_loss: float  # of held-out answers, the adapters beside the model as PEFT reads them
    rendered_alike: bool  # held-out questions and conversations, here and by the export's template
    answered_alike: int  # of the held-out questions, by `footplate-trainer generate` and by transformers


def talks(tokenizer: Any) -> tuple[list[Talk], list[Talk]]:
    """Conversations to learn from, and held-out ones."""
    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": _CREDIT.sub("", told)}]
        for asked, told in questions()
    ]
    rows = [row for row in rows if length(tokenizer, row) <= FITTING]
    random.Random(0).shuffle(rows)
    return [row for row in rows[HELD_OUT:] if length(tokenizer, row) <= SHORT], rows[:HELD_OUT]


def prepare(folder: Path, base: Path, learnt: Sequence[Talk], held_out: Sequence[Talk]) -> None:
    """Shards of both, and of the questions alone."""
    for name, rows, kind in (
        ("learnt", [{"messages": row} for row in learnt], "chat"),
        ("held-out", [{"messages": row} for row in held_out], "chat"),
        ("asked", [{"prompt": row[:1]} for row in held_out], "prompts"),
    ):
        file = write_rows(folder / f"{name}.jsonl", rows)
        command("pack", file, folder / "shards" / name, "--format", kind,
                "--tokenizer", base, "--context-length", FITTING)  # fmt: skip


def tuned(folder: Path, base: Path, *, smoke: bool = False) -> Trained:
    """The model with adapters, merged where it is exported, and alone in `adapters` beside that."""
    steps = 2 if smoke else STEPS
    spec: dict[str, Any] = {
        "stage": "sft",
        "initFrom": {"uri": str(base)},
        "model": {"contextLength": CONTEXT, "adapter": {"rank": RANK, "alpha": 2 * RANK}},
        "data": {"uri": str(folder / "shards" / "learnt")},
        "validation": {"everySteps": steps // 2, "uri": str(folder / "shards" / "held-out")},
        "training": training(steps, 1, RATE, precision="bf16", activationCheckpointing="none"),
    }
    run = run_stage(folder, "tuned", spec)
    command("export", run.checkpoints, folder / "tuned" / "adapters", "--adapter")
    return run


@torch.no_grad()
def loss(model: Any, tokenizer: Any, held_out: Sequence[Talk]) -> float:
    """Mean over the tokens of answers, to the one that ends a turn."""
    lost = []
    for row in held_out:
        asked, whole = prompt_of(tokenizer, row), rendered(tokenizer, row)
        whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]
        ids = torch.tensor([whole])
        logits = model(input_ids=ids).logits[0, len(asked) - 1 : -1]
        lost.append(torch.nn.functional.cross_entropy(logits, ids[0, len(asked) :], reduction="none"))
    return float(torch.cat(lost).mean())


def rendered(tokenizer: Any, row: Talk, **how: Any) -> list[int]:
    """The ids of a conversation."""
    ids: list[int] = tokenizer.apply_chat_template(row, return_dict=False, **how)
    return ids


def prompt_of(tokenizer: Any, row: Talk) -> list[int]:
    """The ids of its question, up to where the answer begins."""
    return rendered(tokenizer, row[:1], add_generation_prompt=True)


def answers(model: Any, tokenizer: Any, held_out: Sequence[Talk], room: int) -> list[list[int]]:
    """One to each question, by the model's own settings."""
    asked = tokenizer.apply_chat_template(
        [row[:1] for row in held_out],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    drawn = model.generate(**asked, max_new_tokens=room)[:, asked["input_ids"].shape[1] :].tolist()
    end = tokenizer.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in drawn]


def judged(folder: Path, held_out: Sequence[Talk], room: int) -> Model:
    """The model of a folder, in fp32."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = answers(model, tokenizer, held_out, room)
    ended = sum(tokenizer.eos_token_id in row for row in said)
    return Model(loss(model, tokenizer, held_out), said, ended)


def adapted_loss(folder: Path, base: Path, held_out: Sequence[Talk]) -> float:
    """Of adapters in `folder`, beside the model of `base`."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return loss(PeftModel.from_pretrained(plain, folder), AutoTokenizer.from_pretrained(folder), held_out)


def rendered_alike(folder: Path, model: Path, held_out: Sequence[Talk]) -> bool:
    """Whether shards hold the ids of the exported template."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    both = [
        (folder / "shards" / "asked", [prompt_of(tokenizer, row) for row in held_out]),
        (folder / "shards" / "held-out", [rendered(tokenizer, row) for row in held_out]),
    ]
    return all(_stored(shards) == ids for shards, ids in both)


def _stored(shards: Path) -> list[list[int]]:
    """The ids of each sample of one document."""
    samples = SampleShards(TokenShards.open(str(shards)))
    return [samples[number].documents[0].tokens.tolist() for number in range(len(samples))]


def our_answers(folder: Path, run: Trained, held_out: Sequence[Talk], room: int) -> list[list[int]]:
    """Those of `footplate-trainer generate`, the likeliest tokens."""
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    asked = write_rows(
        folder / "asked-tokens.jsonl", ({"tokens": prompt_of(tokenizer, row)} for row in held_out)
    )
    file = folder / "answers.jsonl"
    command("generate", run.checkpoints, "--prompts", asked, "--output", file, "--temperature", 0,
            "--max-new-tokens", room)  # fmt: skip
    return [json.loads(line)["tokens"] for line in file.read_text().rstrip("\n").split("\n")]


def show(folder: Path, *, smoke: bool = False) -> Seen:
    """All of it, with what it makes in `folder`."""
    base = smollm2()
    learnt, held_out = talks(AutoTokenizer.from_pretrained(base))
    held_out, room = (held_out[:2], 16) if smoke else (held_out, ROOM)
    prepare(folder, base, learnt, held_out)
    run = tuned(folder, base, smoke=smoke)
    after = judged(run.folder, held_out, room)
    ours = our_answers(folder, run, held_out, room)
    return Seen(
        run,
        judged(base, held_out, room),
        after,
        adapted_loss(folder / "tuned" / "adapters", base, held_out),
        rendered_alike(folder, run.folder, held_out),
        sum(ids == theirs for ids, theirs in zip(ours, after.answers, strict=True)),
    )


def main() -> int:
    """Print the table; 1 where a bar is missed."""
    arguments = show_parser(__doc__).parse_args()
    with opened_folder(arguments) as folder:
        seen = show(folder, smoke=arguments.smoke)
    before, after = seen.before, seen.after
    asked = len(after.answers)
    print("held out                before   after")
    print(f"loss of answers       {before.loss:8.3f}{after.loss:8.3f}  bar {FALL} lower")
    print(f"answers that end      {before.ended:8}{after.ended:8}  of {asked}; bar {ENDED} of {HELD_OUT}")
    tokens = [sum(map(len, model.answers)) / asked for model in (before, after)]
    print(f"tokens of an answer   {tokens[0]:8.0f}{tokens[1]:8.0f}")
    print(f"loss with PEFT        {seen.adapter_loss:16.3f}")
    print(f"same answer of footplate-trainer generate: {seen.answered_alike} of {asked}")
    print(
        f"same ids in shards and by the exported template: {'yes' if seen.rendered_alike else 'no'}  bar yes"
    )
    print(f"sft                   {seen.run.seconds:.0f} s, {seen.run.cpu_seconds:.0f} of the CPU")
    reached = before.loss - after.loss >= FALL and after.ended >= ENDED and seen.rendered_alike
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
