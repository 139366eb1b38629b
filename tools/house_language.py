"""House rules on language: docstrings' first words, names of modules, classes and functions, words of texts.

The lists are in `language.toml`. CONTRIBUTING says what the rules are for.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

LISTS: Final = Path(__file__).parent / "language.toml"
PRODUCT: Final = ("contracts", "planning", "ledger", "elastic", "operator", "api", "trainer-image")
_FIRST_WORD: Final = re.compile(r"[\W_]*([\w'-]+)")
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SUBJECT: Final = re.compile(r"[a-z][a-z0-9/-]*: [a-z0-9`]\S*( \S+)*[^.\s]")
SUBJECT_LIMIT: Final = 72
STAGE_TABLES: Final = ("footplate_contracts/stages.py", "footplate_trainer/stages/programs.py")
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Source(Protocol):
    """A tracked file of the repository."""

    @property
    def path(self) -> PurePosixPath:
        """Path from the repository's root."""

    @property
    def text(self) -> str:
        """Content of the file."""

    @property
    def room(self) -> str:
        """Top folder of the file."""

    @property
    def is_python(self) -> bool:
        """True for a Python module that people edit."""

    @property
    def module(self) -> ast.Module:
        """Syntax tree of a Python file."""


@dataclass(frozen=True)
class Lists:
    """Words and names that the rules refuse or excuse.

    Attributes:
        openings: first words that no docstring may have, in lower case.
        third_person: verbs that no function's docstring may begin with, in lower case.
        vague_classes: parts of class names that say nothing, but in `compounds`.
        compounds: terms of the field that have such a part.
        participles: module names that say what happens and not what is there.
        private_words: parts of names that no other project has, in lower case.
        text_words: words and phrases that no string literal of several words may have, in lower case.
        shared_classes: reasons why several classes bear a name.
        allowed_openings: docstrings by distribution that may still break the rules on their first word.
        allowed_texts: texts by distribution that may still have refused words.
    """

    openings: frozenset[str]
    third_person: frozenset[str]
    vague_classes: frozenset[str]
    compounds: frozenset[str]
    participles: frozenset[str]
    private_words: frozenset[str]
    text_words: frozenset[str]
    shared_classes: Mapping[str, str]
    allowed_openings: Mapping[str, int]
    allowed_texts: Mapping[str, int]

    @classmethod
    def load(cls, path: Path = LISTS) -> Lists:
        """Read the lists of `path`."""
        table: dict[str, Any] = tomllib.loads(path.read_text())
        words = {name: frozenset(value) for name, value in table.items() if isinstance(value, list)}
        return cls(**(table | words))


def definitions(module: ast.Module) -> Iterator[_Definition]:
    """Yield public classes and functions, and the public methods of these classes."""
    for node in module.body:
        if isinstance(node, _Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                methods = (member for member in node.body if isinstance(member, _Definition))
                yield from (member for member in methods if not member.name.startswith("_"))


def bad_openings(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Docstrings of modules and public names whose first word is refused."""
    for file in _product(files):
        for node in (file.module, *definitions(file.module)):
            match = _FIRST_WORD.match(ast.get_docstring(node) or "")
            word = match.group(1).lower() if match else ""
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if word in lists.openings or (is_function and word in lists.third_person):
                line = getattr(node, "lineno", 1)
                yield f"{file.path}:{line}: a docstring begins with {word!r}, no verb or noun"


def openings(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Docstrings beyond the number that a distribution is allowed, and numbers that are to be lowered."""
    return _beyond(bad_openings(files, lists), "allowed_openings", lists.allowed_openings)


def texts(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Texts with refused words, by the same count."""
    return _beyond(bad_texts(files, lists), "allowed_texts", lists.allowed_texts)


def bad_texts(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """String literals of several words, docstrings apart, that have a refused word."""
    words = "|".join(sorted(lists.text_words))
    refused = re.compile(rf"(?<![\w./{{-])(?:{words})(?![\w=(}}-])", re.IGNORECASE)
    for file in _product(files):
        for line, text in _literals(file.module):
            match = refused.search(text) if " " in text.strip() else None
            if match:
                yield f"{file.path}:{line}: a text has {match.group()!r}; name actor, verb and noun"


def _literals(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string literal that is no statement of its own."""
    inner = {part for node in ast.walk(module) for part in _parts_of(node)}
    for node in ast.walk(module):
        if node in inner:
            continue
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.JoinedStr(values=values):
                texts = (part.value if isinstance(part, ast.Constant) else "{}" for part in values)
                yield node.lineno, "".join(map(str, texts))


def _parts_of(node: ast.AST) -> Sequence[ast.AST]:
    match node:
        case ast.JoinedStr(values=values):
            return values
        case ast.Expr(value=value):
            return [value]
    return ()


def _beyond(breaches: Iterable[str], table: str, allowed: Mapping[str, int]) -> Iterator[str]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for breach in breaches:
        found[breach.partition("/")[0]].append(breach)
    for distribution in PRODUCT:
        count, most = len(found[distribution]), allowed.get(distribution, 0)
        if count > most:
            yield from found[distribution]
        elif count < most:
            yield f"tools/language.toml: {table}.{distribution}: lower {most} to {count}"


def private_names(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Names of modules, classes and public functions that are made of refused words."""
    for file in _product(files):
        stem = file.path.stem
        if stem in lists.participles:
            yield f"{file.path}: a module is named by a noun, not {stem!r}"
        named = [(1, stem), *((node.lineno, node.name) for node in definitions(file.module))]
        for line, name in named:
            for word in sorted({part.lower() for part in parts(name)} & lists.private_words):
                yield f"{file.path}:{line}: {name}: {word!r} is no word of the field"
        for node in definitions(file.module):
            if isinstance(node, ast.ClassDef):
                name = re.sub("|".join(lists.compounds), "", node.name)
                for part in sorted(set(parts(name)) & lists.vague_classes):
                    yield f"{file.path}:{node.lineno}: {node.name}: {part!r} names no thing"


def shared_classes(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Public classes that bear one name without a reason."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in _product(files):
        for node in file.module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{file.path}:{node.lineno}")
    for name, places in sorted(found.items()):
        if len(places) > 1 and name not in lists.shared_classes:
            yield f"{len(places)} classes are named {name}: {', '.join(places)}"
    for name in sorted(lists.shared_classes):
        if len(found[name]) < 2:
            yield f"tools/language.toml: shared_classes.{name}: no name twice; remove the row"


def stage_names(files: Sequence[Source], lists: Lists) -> Iterator[str]:
    """Members of `Stage` outside the two tables that know all stages."""
    for file in _product(files):
        if file.path.as_posix().endswith(STAGE_TABLES):
            continue
        for node in ast.walk(file.module):
            match node:
                case ast.Attribute(value=ast.Name(id="Stage"), attr=name):
                    yield f"{file.path}:{node.lineno}: Stage.{name}; ask the stage's StageRules"


def parts(name: str) -> list[str]:
    """Return the words that a CamelCase or snake_case name is made of."""
    return _PARTS.findall(name)


def check_subject(message: str) -> str:
    """Return what is wrong with the first line of a commit message; empty: nothing."""
    subject = message.partition("\n")[0]
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return ""
    if len(subject) > SUBJECT_LIMIT:
        return (
            f"commit subject: {len(subject)} characters; at most {SUBJECT_LIMIT}, the why goes into the body"
        )
    if not _SUBJECT.fullmatch(subject):
        return f"commit subject: {subject!r} is not `scope: imperative` in lower case, without a full stop"
    return ""


def _product(files: Sequence[Source]) -> Iterator[Source]:
    for file in files:
        if file.is_python and file.room in PRODUCT:
            yield file


LANGUAGE_RULES: Final = (openings, texts, private_names, shared_classes, stage_names)
