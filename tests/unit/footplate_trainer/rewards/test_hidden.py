"""No key of a reward function is in what is told of it."""

from __future__ import annotations

import pytest

from footplate_trainer.rewards.redaction import Redactor


@pytest.mark.parametrize(
    ("value", "said", "told"),
    [
        pytest.param("s3cr3t-value", "401 for ?key=s3cr3t-value&a=1", "401 for ?key=***&a=1", id="whole"),
        pytest.param("s3cr3t-value", "it raised x: s3cr3t-v…", "it raised x: ***…", id="cut"),
        pytest.param("s3cr3t-value", "str 's3cr3t-…, no number", "str '***…, no number", id="cut-within"),
        pytest.param("s3cr3t-value", "s3cr3t was lost", "s3cr3t was lost", id="another-word"),
        pytest.param("a/b c+d", "?k=a%2Fb%20c%2Bd ?k=a%2Fb+c%2Bd", "?k=*** ?k=***", id="in-a-url"),
        pytest.param("it's\\mine", repr("it's\\mine"), '"***"', id="as-python-writes-it"),
        pytest.param("first line\nsecond line\n", "second line, first line", "***, ***", id="by-lines"),
        pytest.param("first line\nsecond line\n", "first line second line", "***", id="in-one-line"),
        pytest.param("", "nothing to hide", "nothing to hide", id="empty"),
        pytest.param("k(y", "it is k(y", "it is ***", id="short"),
    ],
)
def test_a_key_is_replaced(value: str, said: str, told: str) -> None:
    assert Redactor([value]).redact_text(said) == told


def test_of_keys_that_begin_alike_the_longer_is_replaced_as_a_whole() -> None:
    assert Redactor(["key-1", "key-1-long"]).redact(["key-1-long", 1.0, None]) == ["***", 1.0, None]
