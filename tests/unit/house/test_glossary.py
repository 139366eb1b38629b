"""The glossary is short, and the product or another page uses each of its words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

GLOSSARY = Path("docs/glossary.md")
MOST = 20  # words that a reader has to learn
WORDS = re.findall(r"^\| (?!word )([\w ]+?) \|", GLOSSARY.read_text(), flags=re.MULTILINE)


@cache
def used_words() -> frozenset[str]:
    """Return all words of the packages' sources and of the pages but the glossary, in lower case."""
    sources = [path for path in Path().glob("*/src/**/*.py") if path.name != "__init__.py"]
    pages = [path for path in Path("docs").glob("*.md") if path != GLOSSARY]
    words: set[str] = set()
    for path in (*sources, *pages):
        words.update(re.findall(r"[a-z]+", path.read_text().lower()))
    return frozenset(words)


def test_the_words_are_few_and_each_has_one_meaning() -> None:
    assert 0 < len(WORDS) <= MOST
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_used(word: str) -> None:
    assert set(word.lower().split()) <= used_words()
