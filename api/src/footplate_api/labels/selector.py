"""Label selectors, as `kubectl get -l` accepts them; pure.

The grammar, its odd corners included, and the error messages are those of
k8s.io/apimachinery/pkg/labels: whoever knows kubectl knows these. Only `<` and `>` are missing,
which compare values as numbers. tests/component/footplate_api/test_kubernetes.py compares both
with an API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

MOST: Final = 20  # requirements; each is a look into the table of labels for every run that is passed


class Operator(StrEnum):
    """Comparison of a requirement; a run without the key satisfies `notin`, not `in`."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"


@dataclass(frozen=True)
class Requirement:
    """A condition of a selector, all of which must hold; `values` are sorted, and empty for existence."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    @property
    def requires_key(self) -> bool:
        """True if only runs that have the key can meet it."""
        return self.operator in (Operator.IN, Operator.EXISTS)


class _Kind(StrEnum):
    IDENTIFIER = "identifier"
    END = ""
    COMMA = ","
    NOT = "!"
    OPEN = "("
    CLOSED = ")"
    IN = "in"
    NOT_IN = "notin"
    EQUALS = "="
    DOUBLE_EQUALS = "=="
    NOT_EQUALS = "!="
    GREATER = ">"
    LESS = "<"
    ERROR = "error"


class _Token(NamedTuple):
    kind: _Kind
    text: str


_END: Final = _Token(_Kind.END, "")
_SPACES: Final = " \t\r\n"
_SYMBOLS: Final = "=!(),><"
_WORDS: Final = {kind.value: kind for kind in _Kind if kind not in (_Kind.IDENTIFIER, _Kind.ERROR, _Kind.END)}
_BINARY: Final = "in, notin, =, ==, !=, gt, lt"
_OPERATORS: Final = {
    _Kind.IN: Operator.IN,
    _Kind.NOT_IN: Operator.NOT_IN,
    _Kind.EQUALS: Operator.IN,
    _Kind.DOUBLE_EQUALS: Operator.IN,
    _Kind.NOT_EQUALS: Operator.NOT_IN,
}


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Parse a selector into its requirements; raises ValueError with kubectl's message.

    >>> parse_selector("team=a, tier notin (x, y), !legacy")[1]
    Requirement(key='tier', operator=<Operator.NOT_IN: 'notin'>, values=('x', 'y'))
    """
    requirements = tuple(_Parser(text).requirements())
    if len(requirements) > MOST:
        raise ValueError(f"found {len(requirements)} requirements, expected: at most {MOST}")
    return requirements


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        if text[place] in _SPACES:
            place += 1
            continue
        begin = place
        if text[begin] in _SYMBOLS:
            token, place = _symbol(text, begin)
            yield token
            continue
        while place < len(text) and text[place] not in _SPACES + _SYMBOLS:
            place += 1
        word = text[begin:place]
        yield _Token(_WORDS.get(word, _Kind.IDENTIFIER), word)


def _symbol(text: str, begin: int) -> tuple[_Token, int]:
    """Return the longest symbol that begins at `begin`, and where it ends."""
    known: _Token | None = None
    end = begin
    while end < len(text) and text[end] in _SYMBOLS:
        longer = text[begin : end + 1]
        if longer in _WORDS:
            known = _Token(_WORDS[longer], longer)
        elif known is not None:
            break
        end += 1
    assert known is not None, "each symbol alone is a token"
    return known, end


class _Parser:
    """Parser that reads tokens one by one; `in` and `notin` are operators only where one may stand."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text), _END]
        self._place = 0

    def _look(self, operator: bool = False) -> _Token:
        token = self._tokens[min(self._place, len(self._tokens) - 1)]
        if not operator and token.kind in (_Kind.IN, _Kind.NOT_IN):
            return _Token(_Kind.IDENTIFIER, token.text)
        return token

    def _take(self, operator: bool = False) -> _Token:
        token = self._look(operator)
        self._place += 1
        return token

    def requirements(self) -> Iterator[Requirement]:
        while True:
            token = self._look()
            if token.kind is _Kind.END:
                return
            if token.kind not in (_Kind.IDENTIFIER, _Kind.NOT):
                raise ValueError(f"found '{token.text}', expected: !, identifier, or 'end of string'")
            try:
                yield self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            after = self._take()
            if after.kind is _Kind.END:
                return
            if after.kind is not _Kind.COMMA:
                raise ValueError(f"found '{after.text}', expected: ',' or 'end of string'")
            following = self._look()
            if following.kind not in (_Kind.IDENTIFIER, _Kind.NOT):
                raise ValueError(f"found '{following.text}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        token = self._take()
        absent = token.kind is _Kind.NOT
        if absent:
            token = self._take()
        if token.kind is not _Kind.IDENTIFIER:
            raise ValueError(f"found '{token.text}', expected: identifier")
        if faults := key_faults(token.text):
            raise ValueError(_invalid("<nil>", token.text, faults))
        if absent:
            return Requirement(token.text, Operator.DOES_NOT_EXIST)
        if self._look().kind in (_Kind.END, _Kind.COMMA):
            return Requirement(token.text, Operator.EXISTS)
        return self._comparison(token.text)

    def _comparison(self, key: str) -> Requirement:
        found = self._take(operator=True)
        if found.kind in (_Kind.GREATER, _Kind.LESS):
            raise ValueError(f"found '{found.text}', expected: in, notin, =, ==, !=: no order is supported")
        if found.kind not in _OPERATORS:
            raise ValueError(f"found '{found.text}', expected: {_BINARY}")
        several = found.kind in (_Kind.IN, _Kind.NOT_IN)
        values = self._values() if several else {self._value()}
        ordered = tuple(sorted(values))
        wrong = [
            _invalid(f"values[{number}][{key}]", value, faults)
            for number, value in enumerate(ordered)
            if (faults := value_faults(value))
        ]
        if wrong:
            raise ValueError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
        return Requirement(key, _OPERATORS[found.kind], ordered)

    def _value(self) -> str:
        if self._look().kind in (_Kind.END, _Kind.COMMA):
            return ""
        token = self._take()
        if token.kind is _Kind.IDENTIFIER:
            return token.text
        raise ValueError(f"found '{token.text}', expected: identifier")

    def _values(self) -> set[str]:
        token = self._take()
        if token.kind is not _Kind.OPEN:
            raise ValueError(f"found '{token.text}' expected: '('")
        first = self._look()
        if first.kind is _Kind.CLOSED:
            self._take()
            return {""}
        if first.kind not in (_Kind.IDENTIFIER, _Kind.COMMA):
            raise ValueError(f"found '{first.text}', expected: ',', ')' or identifier")
        values = self._identifiers()
        self._take()  # what closes them: nothing else ends a list
        return values

    def _identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            token = self._take()
            if token.kind is _Kind.IDENTIFIER:
                values.add(token.text)
                after = self._look()
                if after.kind is _Kind.CLOSED:
                    return values
                if after.kind is not _Kind.COMMA:
                    raise ValueError(f"found '{after.text}', expected: ',' or ')'")
            elif token.kind is _Kind.COMMA:
                if not values:
                    values.add("")
                after = self._look()
                if after.kind is _Kind.CLOSED:
                    return values | {""}
                if after.kind is _Kind.COMMA:
                    self._take()
                    values.add("")
            else:
                raise ValueError(f"found '{token.text}', expected: ',', or identifier")


# k8s.io/apimachinery/pkg/util/validation: what a label's key and value may be, in its words.
_PART: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PART_SAID: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_SAID: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used"
    " for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_SUBDOMAIN_SAID: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must"
    " start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def key_faults(key: str) -> Sequence[str]:
    """Return the errors in a label's key."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [
            f"a valid label key {_PART_SAID} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')"
        ]
    faults = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif slash:
        faults += [f"prefix part {said}" for said in _subdomain_faults(prefix)]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        faults.append("name part must be no more than 63 bytes")
    if not _PART.fullmatch(name):
        faults.append(f"name part {_PART_SAID}")
    return faults


def _subdomain_faults(prefix: str) -> Iterator[str]:
    if len(prefix.encode()) > 253:
        yield "must be no more than 253 bytes"
    if not _SUBDOMAIN.fullmatch(prefix):
        yield _SUBDOMAIN_SAID


def value_faults(value: str) -> Sequence[str]:
    """Return the errors in a label's value."""
    faults = []
    if len(value.encode()) > 63:
        faults.append("must be no more than 63 bytes")
    if value and not _PART.fullmatch(value):
        faults.append(_VALUE_SAID)
    return faults


def _invalid(where: str, value: str, faults: Sequence[str]) -> str:
    return f'{where}: Invalid value: "{value}": {"; ".join(faults)}'
