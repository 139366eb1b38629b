"""Ids of a rendered conversation, where text that spells a special token stays text.

A template writes special tokens by their names, so the rendered text has to be encoded with them. A user's
text may spell one, too: a question about ChatML contains `<|im_end|>`, and encoded so it would end the user's
turn. In such a conversation each spelling is put between two marks before it is rendered, and the text is
encoded in pieces, the marked ones without special tokens. Special tokens cut text for any tokenizer, so the
pieces beside them have the same ids as in the whole text.

All other conversations are encoded as one text: their ids are those of transformers' `apply_chat_template`;
marked ones have the ids of its `sanitize_control_tokens` where all of the template's tokens are special.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from footplate_trainer.data.chat.template import Conversation, ConversationRefused
from footplate_trainer.data.order import Int64s

# Code points that no text has, as Unicode leaves them to programs.
_MARKS: Final = range(0xFDD0, 0xFDF0)


@dataclass(frozen=True)
class EscapeMarks:
    """Characters before and after a text that spells a special token."""

    start: str
    end: str


@dataclass(frozen=True)
class EncodedText:
    """A rendered text as tokens; positions are characters of `text`, which may hold marks."""

    text: str
    ids: NDArray[np.uint32]  # [n]
    starts: Int64s  # [n]
    ends: Int64s  # [n]
    special: NDArray[np.bool_]  # [n]: tokens that the template wrote by name

    def within(self, start: int, end: int) -> NDArray[np.bool_]:
        """Return which tokens overlap [start, end): bool [n]."""
        return (self.ends > start) & (self.starts < end)


@dataclass(frozen=True)
class ChatEncoder:
    """A tokenizer that reads special tokens in the text of templates only."""

    tokenizer: Tokenizer

    @cached_property
    def special(self) -> dict[int, str]:
        """The ids and names of special tokens."""
        added = self.tokenizer.get_added_tokens_decoder()
        return {number: token.content for number, token in added.items() if token.special}

    @cached_property
    def visible_token_ids(self) -> list[int]:
        """The ids of all added tokens except white space."""
        added = self.tokenizer.get_added_tokens_decoder()
        return sorted(number for number, token in added.items() if token.content.strip())

    @cached_property
    def begins_with(self) -> list[int]:
        """The ids that the tokenizer itself puts before a text: the beginning of text, or none."""
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        whole = self.tokenizer.encode("a", add_special_tokens=True).ids
        before = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
        return whole[:before]

    def escape_special_tokens(self, conversation: Conversation) -> tuple[Conversation, EscapeMarks | None]:
        """Put marks around each spelling of a special token; return no marks if there is none."""
        data = (conversation.messages, conversation.tools, conversation.documents, conversation.variables)
        texts = [text for part in data for text in _texts(part)]
        if not any(self._spelling.search(text) for text in texts):
            return conversation, None
        unused = (chr(mark) for mark in _MARKS if not any(chr(mark) in text for text in texts))
        marks = EscapeMarks(next(unused), next(unused))
        messages, tools, documents, variables = (_marked(part, self._spelling, marks) for part in data)
        protected = replace(
            conversation, messages=messages, tools=tools, documents=documents, variables=variables
        )
        return protected, marks

    def encode(self, texts: Sequence[str], marks: Sequence[EscapeMarks | None]) -> list[EncodedText]:
        """Return the tokens of rendered texts; nothing is put before or after them."""
        self.tokenizer.encode_special_tokens = False
        plain = [text for text, mark in zip(texts, marks, strict=True) if mark is None]
        encodings = iter(self.tokenizer.encode_batch(plain, add_special_tokens=False))
        return [
            self._whole(text, next(encodings)) if mark is None else self._in_pieces(text, mark)
            for text, mark in zip(texts, marks, strict=True)
        ]

    def encode_text(self, text: str) -> EncodedText:
        """Encode a text that no template wrote, in which nothing is a special token."""
        return self._whole(text, self._encoding(text, as_text=True))

    @cached_property
    def _spelling(self) -> re.Pattern[str]:
        longest_first = sorted(self.special.values(), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @cached_property
    def _line_end(self) -> list[int]:
        return self._encoding("\n", as_text=False).ids

    @cached_property
    def _special_ids(self) -> NDArray[np.uint32]:
        return np.array(sorted(self.special), dtype=np.uint32)

    def _encoding(self, text: str, *, as_text: bool) -> Encoding:
        self.tokenizer.encode_special_tokens = as_text
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _whole(self, text: str, encoding: Encoding) -> EncodedText:
        ids = np.array(encoding.ids, dtype=np.uint32)
        places = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return EncodedText(text, ids, places[:, 0], places[:, 1], np.isin(ids, self._special_ids))

    def _in_pieces(self, text: str, marks: EscapeMarks) -> EncodedText:
        parts = [
            self._piece(text[start:end], as_text, start)
            for start, end, as_text in _pieces(text, self._spelling, marks)
        ]
        ids, starts, ends, special = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return EncodedText(text, ids, starts, ends, special)

    def _piece(
        self, piece: str, as_text: bool, place: int
    ) -> tuple[NDArray[np.uint32], Int64s, Int64s, NDArray[np.bool_]]:
        """Return a piece's tokens; SentencePiece puts a space before a text, and none after a line end."""
        encoding, skipped, moved = self._encoding(piece, as_text=as_text), 0, 0
        if place > 0:
            after = self._encoding("\n" + piece, as_text=as_text)
            if after.ids[: len(self._line_end)] == self._line_end:
                encoding, skipped, moved = after, len(self._line_end), 1
        whole = self._whole(piece, encoding)
        if as_text and np.isin(whole.ids[skipped:], self._special_ids).any():
            raise ConversationRefused(f"the tokenizer reads the text {piece!r} as a special token")
        special = np.zeros_like(whole.special) if as_text else whole.special
        shift = place - moved
        return (
            whole.ids[skipped:],
            whole.starts[skipped:] + shift,
            whole.ends[skipped:] + shift,
            special[skipped:],
        )


def _pieces(text: str, spelling: re.Pattern[str], marks: EscapeMarks) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, whether it is text) of each piece; a mark alone only cuts."""
    cut = re.compile(f"{marks.start}({spelling.pattern}){marks.end}|[{marks.start}{marks.end}]")
    place = 0
    for found in cut.finditer(text):
        if found.start() > place:
            yield place, found.start(), False
        if found.group(1) is not None:
            yield found.start(1), found.end(1), True
        place = found.end()
    if place < len(text):
        yield place, len(text), False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        if _are_blocks(value):
            yield "".join(block["text"] for block in value)
        for item in value:
            yield from _texts(item)


def _marked(value: Any, spelling: re.Pattern[str], marks: EscapeMarks) -> Any:
    if isinstance(value, str):
        return spelling.sub(f"{marks.start}\\g<0>{marks.end}", value)
    if isinstance(value, Mapping):
        return {
            _marked(name, spelling, marks): _marked(item, spelling, marks) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        marked = [_marked(item, spelling, marks) for item in value]
        if _are_blocks(value):
            texts = _marked_together([block["text"] for block in value], spelling, marks)
            marked = [{**block, "text": text} for block, text in zip(marked, texts, strict=True)]
        return marked
    return value


def _are_blocks(value: Sequence[Any]) -> bool:
    """Return whether these are a message's content blocks, which a template concatenates."""
    return bool(value) and all(
        isinstance(block, Mapping) and isinstance(block.get("text"), str) for block in value
    )


def _marked_together(texts: Sequence[str], spelling: re.Pattern[str], marks: EscapeMarks) -> list[str]:
    """Put marks around each spelling of a special token in the concatenation of `texts`."""
    found = [match.span() for match in spelling.finditer("".join(texts))]
    before, behind = {start for start, _ in found}, {end - 1 for _, end in found}
    marked, place = [], 0
    for text in texts:
        characters = [
            f"{marks.start if at in before else ''}{character}{marks.end if at in behind else ''}"
            for at, character in enumerate(text, place)
        ]
        marked.append("".join(characters))
        place += len(text)
    return marked
