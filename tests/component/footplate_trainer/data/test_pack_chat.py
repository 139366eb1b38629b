"""`pack` of conversations from a bucket and a web server, by its command line."""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as arrow
import pytest
from pyarrow import parquet
from transformers import AutoTokenizer

from footplate_contracts.names import ExitCode
from footplate_trainer.commands.pack import add_arguments, run
from footplate_trainer.data.sample_shards import SampleShards
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.storage import open_storage
from tests.support.chat import assistant, chatml_model, user
from tests.support.s3 import s3_server

TALKS = [[user(f"Is {n} odd?"), assistant("Yes" if n % 2 else "No")] for n in range(5)]


def pack(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_hub_folder_in_a_bucket_becomes_shards_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = chatml_model(tmp_path / "model")
    table = arrow.Table.from_pylist([{"messages": talk, "id": n} for n, talk in enumerate(TALKS)])
    parquet.write_table(table, tmp_path / "train.parquet")
    with s3_server("bucket") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FOOTPLATE_DATA_CACHE", str(tmp_path / "cache"))
        open_storage("s3://bucket/set").upload(
            tmp_path / "train.parquet", "data/train-00000-of-00001.parquet"
        )
        told = ("--format", "chat", "--tokenizer", model, "--ignore", "id", "--show", 1)
        assert pack("s3://bucket/set", "s3://bucket/shards", *told) == ExitCode.SUCCESS
        samples = SampleShards(TokenShards.open("s3://bucket/shards"))
    theirs = AutoTokenizer.from_pretrained(model)
    for number, talk in enumerate(TALKS):
        [document] = samples[number].documents
        assert document.tokens.tolist() == theirs.apply_chat_template(talk, return_dict=False)
    out = capsys.readouterr().out
    assert "s3://bucket/set/data/train-00000-of-00001.parquet:1: " in out
    assert "⟦N|o|<|im_end|>⟧|\\n\n" in out
    assert (
        f"s3://bucket/shards: 5 samples of {samples.shards.tokens} tokens in 1 shard(s), format chat" in out
    )


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server over `tmp_path`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
            """Not in a test's output."""

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_a_file_of_a_web_server_is_read_and_its_bad_row_named(
    web: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"prompt": talk[:1], "answer": "x"}) for talk in TALKS]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "{"]))
    told = (
        f"{web}/rows.jsonl",
        tmp_path / "out",
        "--format",
        "prompts",
        "--tokenizer",
        chatml_model(tmp_path / "m"),
    )
    assert pack(*told) == ExitCode.CONFIG
    assert f"{web}/rows.jsonl:6 is not valid JSON" in capfd.readouterr().err
    assert pack(*told, "--invalid-rows", "drop") == ExitCode.SUCCESS
    assert "  dropped: 1 (not JSON)" in capfd.readouterr().out
    samples = SampleShards(TokenShards.open(str(tmp_path / "out")))
    assert samples[4].columns == {"prompt": TALKS[4][:1], "answer": "x"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--format", "chat"], "--format chat needs --tokenizer", id="no-tokenizer"),
        pytest.param(
            ["--format", "chat", "--tokenizer", "m", "--reserve", "mask"], "--reserve mask: ", id="reserve"
        ),
        pytest.param(["--format", "tokens"], "--vocabulary-size is missing", id="no-size"),
        pytest.param(
            ["--vocabulary-size", "400", "--show", "3"],
            "--show needs --format chat, preferences",
            id="of-conversations",
        ),
    ],
)
def test_options_of_another_format_are_named(
    arguments: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    assert pack(tmp_path / "rows.jsonl", tmp_path / "out", *arguments) == ExitCode.CONFIG
    assert says in capfd.readouterr().err


def test_a_template_that_forgets_its_input_ends_the_work_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": TALKS[0]}) + "\n")
    forgetful = chatml_model(tmp_path / "model", "{{ messages[0].content }}<|im_end|>")
    told = (tmp_path / "rows.jsonl", tmp_path / "out", "--format", "chat", "--tokenizer", forgetful)
    assert pack(*told) == ExitCode.CONFIG
    assert "model/tokenizer_config.json drops input" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
