"""`pack` of conversations as a function: what stands in the folder, and what ends the work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy
from footplate_trainer.data.chat.model_template import read_template
from footplate_trainer.data.chat.renderer import in_process_renderer
from footplate_trainer.data.chat.template import ChatTemplate
from footplate_trainer.data.layout import RecordKind, ShardManifest, SpecialTokenRole
from footplate_trainer.data.pack_samples import SampleOptions, pack_samples
from footplate_trainer.data.prompt_dataset import PromptDataset
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from tests.support.chat import CHATML, MARKED, assistant, chatml_model, user

TALKS = [
    {"messages": [user(f"Is {n} odd?"), assistant("Yes" if n % 2 else "No, it is even.")]} for n in range(6)
]


def write_rows(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def packed(
    folder: Path, rows: Sequence[Any], *, out: str = "out", template: str = CHATML, **options: Any
) -> ShardManifest:
    """Packs `rows` within this process."""
    model = chatml_model(folder / "model", template)
    source = write_rows(folder / "rows.jsonl", rows)
    said: list[str] = options.pop("said", [])
    options = {"format": RecordKind.CHAT, **options}
    found = read_template(model, options.get("chat_template"))
    assert found is not None
    render = in_process_renderer(ChatTemplate(found.source, "t", found.special))
    return pack_samples(
        [source], folder / out, SampleOptions(tokenizer=model, **options), say=said.append, render=render
    )


def test_the_folder_says_how_its_samples_were_made(tmp_path: Path) -> None:
    manifest = packed(tmp_path, TALKS, shard_tokens=150)
    shards = TokenShards.open(str(tmp_path / "out"), verify=(0, 1))
    assert shards.manifest == manifest
    assert len(manifest.shards) > 1
    record = manifest.samples
    assert record is not None and record.template is not None
    assert (tmp_path / "out" / record.template.file).read_text() == CHATML
    assert (record.mask, record.overlong, record.cut, record.dropped) == (
        LossMask.ASSISTANT,
        OverlongPolicy.REFUSE,
        0,
        {},
    )
    assert record.date is None
    # As the model's own files name them; a stage that needs another id says so.
    ids = manifest.special_ids
    assert (ids.bos, ids.eos, ids.pad, ids.mask, ids.sentinels) == (1, 2, 2, None, [])
    assert (manifest.documents, manifest.sources[0].documents) == (6, 6)
    samples = SampleShards(shards)
    assert all(np.count_nonzero(samples[n].documents[0].learnt) > 1 for n in range(6))


def test_a_part_that_a_template_does_not_take_refuses_no_whole(tmp_path: Path) -> None:
    """What is learnt is told by the template; turn by turn it is only compared, where that renders."""
    talk = [user("Hi"), assistant("Yo"), user("Bye"), assistant("So long")]
    picky = "{% if messages | length == 3 %}{{ raise_exception('an even number') }}{% endif %}" + MARKED
    manifest = packed(tmp_path, [{"messages": talk}], template=picky)
    assert manifest.documents == 1 and manifest.samples is not None and manifest.samples.dropped == {}


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (packed(tmp_path, TALKS, out=name) for name in ("one", "two"))
    assert one == two
    assert packed(tmp_path, TALKS, out="three", mask=LossMask.ALL).digest != one.digest


BROKEN = '{"messages": '
UNANSWERED = {"messages": [user("Hi")]}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        pytest.param(BROKEN, "rows.jsonl:2 is not valid JSON: Expecting value", id="json"),
        pytest.param(
            UNANSWERED, "rows.jsonl:2 ends messages with role user; it must end with assistant", id="order"
        ),
        pytest.param(
            {"messages": TALKS[0]["messages"], "id": 1}, "rows.jsonl:2 has the fields id", id="field"
        ),
    ],
)
def test_a_bad_row_ends_the_work_and_is_named(row: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{says}.*; or drop such rows with --invalid-rows drop"):
        packed(tmp_path, [TALKS[0], row, TALKS[1]])
    assert not (tmp_path / "out").exists()


def test_bad_rows_can_be_dropped_and_are_counted_by_reason(tmp_path: Path) -> None:
    manifest = packed(tmp_path, [TALKS[0], BROKEN, UNANSWERED, UNANSWERED, TALKS[1]], drop_invalid_rows=True)
    assert manifest.samples is not None
    assert manifest.samples.dropped == {"not JSON": 1, "order": 2}
    assert (manifest.documents, manifest.sources[0].skipped) == (2, 3)


LONG = {"messages": [*TALKS[0]["messages"], user("And now?"), assistant("I could go on " * 20)]}


@pytest.mark.parametrize(
    ("overlong", "documents", "cut", "dropped"),
    [
        pytest.param(OverlongPolicy.DROP, 1, 0, {"longer than the context": 1}, id="drop"),
        pytest.param(OverlongPolicy.CUT, 2, 1, {}, id="cut"),
    ],
)
def test_long_samples_are_dropped_or_cut_behind_a_turn(
    overlong: OverlongPolicy, documents: int, cut: int, dropped: dict[str, int], tmp_path: Path
) -> None:
    manifest = packed(tmp_path, [TALKS[1], LONG], context_length=200, overlong=overlong)
    record = manifest.samples
    assert record is not None
    assert (manifest.documents, record.cut, record.dropped, record.context_length) == (
        documents,
        cut,
        dropped,
        200,
    )
    [*_, document] = SampleShards(TokenShards.open(str(tmp_path / "out")))[documents - 1].documents
    assert document.learnt is not None
    if cut:
        assert document.learnt[-1]
        assert document.tokens[-1] == 2  # <|im_end|>


def test_a_long_sample_is_refused_with_its_length(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"rows.jsonl:2 has \d+ tokens, more than --context-length 200; raise it"
    ):
        packed(tmp_path, [TALKS[1], LONG], context_length=200, drop_invalid_rows=True)


def test_nothing_that_is_kept_is_told_with_its_reasons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no sample in .*: 1 longer than the context, 1 not JSON"):
        packed(
            tmp_path, [LONG, BROKEN], context_length=9, overlong=OverlongPolicy.DROP, drop_invalid_rows=True
        )


def test_the_first_samples_are_shown(tmp_path: Path) -> None:
    said: list[str] = []
    packed(tmp_path, TALKS, show=2, said=said)
    assert len(said) == 2
    assert said[1].startswith(f"{tmp_path}/rows.jsonl:2: ")
    assert "⟦Y|e|s|<|im_end|>⟧" in said[1]


def test_preferences_keep_pairs_and_margins(tmp_path: Path) -> None:
    rows = [
        {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")], "margin": n}
        for n in range(4)
    ]
    manifest = packed(tmp_path, rows, format=RecordKind.PREFERENCES, shard_tokens=120)
    assert manifest.documents == 8
    samples = SampleShards(TokenShards.open(str(tmp_path / "out"), verify=(0, 1)))
    assert [[side.value for side in samples[n].documents] for n in range(4)] == [
        [float(n), 0.0] for n in range(4)
    ]


def test_a_pair_counts_as_both_its_sides(tmp_path: Path) -> None:
    row = {"prompt": [user("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    length = packed(tmp_path, [row], format=RecordKind.PREFERENCES).tokens
    options = {"format": RecordKind.PREFERENCES, "overlong": OverlongPolicy.DROP, "out": "other"}
    with pytest.raises(ValueError, match="1 longer than the context"):
        packed(tmp_path, [row], context_length=length - 1, **options)
    assert packed(tmp_path, [row], context_length=length, **options).documents == 2


def test_a_template_that_asks_for_the_date_is_told_one_that_is_kept(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%Y') }}" + CHATML
    manifest = packed(tmp_path, TALKS, template=dated, date=date(2026, 11, 30))
    assert manifest.samples is not None
    assert manifest.samples.date == "2026-11-30"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(
            {"format": RecordKind.PREFERENCES, "mask": LossMask.ALL},
            "--mask all: with --format preferences the completion",
            id="mask",
        ),
        pytest.param(
            {"format": RecordKind.PROMPTS, "mask": LossMask.COMPLETION},
            "with --format prompts nothing is learnt",
            id="mask-of-prompts",
        ),
        pytest.param(
            {"overlong": OverlongPolicy.DROP}, "--overlong drop needs --context-length", id="no-context"
        ),
        pytest.param(
            {"overlong": OverlongPolicy.CUT, "context_length": 9, "mask": LossMask.ALL},
            "--overlong cut with .* all: a sample is cut after a whole turn",
            id="cut-all",
        ),
        pytest.param(
            {"overlong": OverlongPolicy.CUT, "context_length": 9, "format": RecordKind.PREFERENCES},
            "pass --overlong drop",
            id="cut-pairs",
        ),
        pytest.param({"context_length": 0}, "--context-length 0 must be at least 1", id="context"),
        pytest.param({"shard_tokens": 0}, "--shard-tokens 0 must be at least 1", id="shard"),
    ],
)
def test_options_that_do_not_go_together_are_named(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        packed(tmp_path, TALKS, **options)


def test_texts_need_no_template_and_messages_do(tmp_path: Path) -> None:
    model = chatml_model(tmp_path / "model", None)
    texts = write_rows(tmp_path / "texts.jsonl", [{"prompt": "2+2=", "completion": "4"}])
    manifest = pack_samples([texts], tmp_path / "out", SampleOptions(RecordKind.CHAT, model))
    assert manifest.samples is not None and manifest.samples.template is None
    assert (
        SampleShards(TokenShards.open(str(tmp_path / "out")))[0].documents[0].tokens[-1] == 2
    )  # its eos_token
    talks = write_rows(tmp_path / "talks.jsonl", TALKS)
    with pytest.raises(
        ValueError, match=r"talks.jsonl:1 has messages, but the tokenizer has no chat template"
    ):
        pack_samples([talks], tmp_path / "other", SampleOptions(RecordKind.CHAT, model))


def test_a_text_needs_to_know_what_ends_it(tmp_path: Path) -> None:
    model = chatml_model(tmp_path / "model", None)
    (model / "tokenizer_config.json").unlink()
    tokenizer = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").write_text(tokenizer.replace("<|endoftext|>", "<|other|>"))
    texts = write_rows(tmp_path / "texts.jsonl", [{"prompt": "2+2=", "completion": "4"}])
    with pytest.raises(
        ValueError, match=r"model has no end of text; pass --special-token eos=TOKEN, or messages"
    ):
        pack_samples([texts], tmp_path / "out", SampleOptions(RecordKind.CHAT, model))
    options = SampleOptions(RecordKind.CHAT, model, special={SpecialTokenRole.EOS: "<|im_end|>"})
    pack_samples([texts], tmp_path / "out", options)
    assert SampleShards(TokenShards.open(str(tmp_path / "out")))[0].documents[0].tokens[-1] == 2


def test_another_template_than_the_models_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(CHATML.replace("Be kind.", "Be short."))
    packed(tmp_path, TALKS, chat_template=tmp_path / "own.jinja")
    assert "Be short." in (tmp_path / "out/chat_template.jinja").read_text()


@pytest.mark.parametrize(
    ("files", "name", "tools"),
    [
        pytest.param(
            {"chat_template.jinja": "a", "chat_template.json": '{"chat_template": "b"}'},
            "chat_template.jinja",
            False,
            id="jinja-first",
        ),
        pytest.param(
            {"chat_template.json": '{"chat_template": "a"}'}, "chat_template.json", False, id="json"
        ),
        pytest.param(
            {
                "tokenizer_config.json": '{"chat_template": [{"name": "tool_use", "template": "b"},'
                ' {"name": "default", "template": "a"}]}'
            },
            "tokenizer_config.json",
            True,
            id="several",
        ),
    ],
)
def test_a_models_template_is_found_where_models_keep_it(
    files: dict[str, str], name: str, tools: bool, tmp_path: Path
) -> None:
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "special_tokens_map.json").write_text(
        '{"eos_token": {"content": "</s>"}, "pad_token": "<pad>"}'
    )
    found = read_template(tmp_path)
    assert found is not None
    assert (found.name, found.source, found.other_for_tools) == (str(tmp_path / name), "a", tools)
    assert found.special == {"eos_token": "</s>", "pad_token": "<pad>"}


def test_rows_with_tools_want_the_template_for_tools(tmp_path: Path) -> None:
    named = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": CHATML}]
    model = chatml_model(tmp_path / "model", named)
    rows = write_rows(tmp_path / "rows.jsonl", [{**TALKS[0], "tools": [{"name": "f"}]}])
    render = in_process_renderer(ChatTemplate(CHATML, "t"))
    with pytest.raises(
        ValueError, match=r"rows.jsonl:1 has tools, and .* \(tool_use\); write that to a file"
    ):
        pack_samples([rows], tmp_path / "out", SampleOptions(RecordKind.CHAT, model), render=render)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("tokenizer_config.json", "{", "tokenizer_config.json is not valid JSON", id="json"),
        pytest.param("chat_template.jinja", "\xff", "chat_template.jinja is not UTF-8", id="utf-8"),
    ],
)
def test_a_file_of_a_model_that_cannot_be_read_is_named(
    name: str, content: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=says):
        read_template(tmp_path)
    with pytest.raises(ValueError, match=r"none\.jinja: No such file"):
        read_template(tmp_path / "nothing", tmp_path / "none.jinja")


PHI = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if not add_generation_prompt %}{{ '<|endoftext|>' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        pytest.param(CHATML, ["<|im_end|>", "\n"], id="a-line-end"),
        pytest.param(MARKED, ["<|im_end|>", "\n"], id="a-line-end-outside-of-marks"),
        pytest.param(CHATML.replace("+ '\n' }}{% endfor %}", "}}{% endfor %}"), ["<|im_end|>"], id="nothing"),
        pytest.param(PHI, ["<|im_end|>", "\n", "<|endoftext|>"], id="another-end"),
        pytest.param("{% for m in messages %}{{ m.content }}\n{% endfor %}", [], id="no-end"),
        pytest.param("{{ raise_exception('no') }}", None, id="refused"),
    ],
)
def test_prompts_know_what_their_template_writes_behind_an_answer(
    template: str, end: list[str] | None, tmp_path: Path
) -> None:
    rows = [{"prompt": [user("a")]}, {"prompt": "a text"}]
    if end is None:
        rows = rows[1:]
    manifest = packed(tmp_path, rows, format=RecordKind.PROMPTS, template=template)
    assert manifest.samples is not None
    tokens = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    ids = None if end is None else [tokens.encode(name).ids[0] for name in end]
    assert manifest.samples.turn_end == ids
    if end:
        prompts = PromptDataset(TokenShards.open(str(tmp_path / "out")), 64)
        asked, text = (prompts.prompt(number, number) for number in range(2))
        assert ids is not None
        assert [asked.tokens_after_end(token) for token in ids] == [ids[n + 1 :] for n in range(len(ids))]
        assert text.tokens_after_end(ids[0]) == (), "no template wrote it"
        assert asked.tokens_after_end(tokens.token_to_id("<|im_start|>")) == (), "this ends no turn"


def test_only_prompts_are_answered_by_a_rollout(tmp_path: Path) -> None:
    record = packed(tmp_path, TALKS).samples
    assert record is not None and record.turn_end is None
