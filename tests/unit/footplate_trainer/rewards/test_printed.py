"""What a function prints, cut into lines; and messages, made of bytes."""

from __future__ import annotations

import pytest

from footplate_trainer.rewards.messages import LARGEST, MessageReader, NotAMessage, encode
from footplate_trainer.rewards.process import OutputLines
from footplate_trainer.rewards.redaction import Redactor

LEFT_OUT = "… further output is dropped"


@pytest.mark.parametrize(
    ("chunks", "logged"),
    [
        pytest.param([b"one\ntwo\n"], ["one", "two"], id="lines"),
        pytest.param([b"on", b"e\n"], ["one"], id="in-pieces"),
        pytest.param([b"one"], ["one"], id="no-end-of-line"),
        pytest.param([b"\n \n"], [], id="empty-lines"),
        pytest.param([b"\x1b[31mred\r\n"], [" [31mred"], id="escapes"),
        pytest.param([b"\xff\n"], ["�"], id="no-text"),
        pytest.param([b"x" * 30 + b"\n"], ["x" * 10 + "…"], id="a-long-line"),
        pytest.param([b"x" * 50, b"x" * 50, b"x\ny\n"], ["x" * 10 + "…", "y"], id="a-line-without-end"),
        pytest.param([b"1\n2\n3\n4\n"], ["1", "2", "3", LEFT_OUT], id="too-many"),
        pytest.param([b"1\n2\n3\n", b"4\n"], ["1", "2", "3", LEFT_OUT], id="just-as-many-and-more"),
    ],
)
def test_what_is_printed_is_cut_into_lines(chunks: list[bytes], logged: list[str]) -> None:
    lines = OutputLines(Redactor([]), lines=3, longest=10)
    told = [line for chunk in chunks for line in lines.feed(chunk)]
    assert told + lines.flush() == logged


@pytest.mark.parametrize(
    ("chunk", "logged"),
    [
        pytest.param(b"key s3cr3t-value\n", "key ***", id="whole"),
        pytest.param(b"s3cr3t-value and " + b"x" * 30, "*** and xx…", id="before-it-is-cut"),
        pytest.param(b"12345678s3cr3t-value", "12345678**…", id="across-the-cut"),
        pytest.param(b"key s3cr3t", "key ***", id="as-far-as-it-was-printed"),
    ],
)
def test_no_key_is_printed(chunk: bytes, logged: str) -> None:
    lines = OutputLines(Redactor(["s3cr3t-value"]), longest=10)
    assert lines.feed(chunk) + lines.flush() == [logged]


def test_messages_come_in_any_pieces() -> None:
    content = [["answer", [1.0, "why", None]], ["raised", "\ud800 half of a pair"], []]
    sent = b"".join(map(encode, content))
    for size in (1, 7, len(sent)):
        reader = MessageReader()
        pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
        assert [message for piece in pieces for message in reader.feed(piece)] == content


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((LARGEST + 1).to_bytes(8, "big"), id="too-long"),
        pytest.param((4).to_bytes(8, "big") + b"nope", id="no-json"),
        pytest.param((1).to_bytes(8, "big") + b"\xff", id="no-text"),
    ],
)
def test_what_is_no_message_is_refused(sent: bytes) -> None:
    with pytest.raises(NotAMessage):
        MessageReader().feed(sent)
