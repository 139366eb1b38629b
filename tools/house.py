"""House rules that no ready-made linter knows.

- `operator/__init__.py` would shadow the standard library's `operator` for the whole interpreter, and a
  test below operator/ would do the same under importlib mode.
- A file that names a package registry or this checkout's own path works on one machine only.
- Files, functions and classes have a size beyond which they are no longer read.
- A class name that stands for two things makes every mention of it a riddle, and a loop variable named `each`
  does not say what it is.
- Few handlers catch every exception, each for a reason (`house_handlers.py`).
- Docstrings and names are in the field's language (`house_language.py`).

`house.py --message FILE` checks the message of a commit, as the hook commit-msg does.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.house_handlers import broad_handlers
from tools.house_language import LANGUAGE_RULES, Lists, check_subject

ROOT = Path(__file__).resolve().parent.parent
FILE_LIMIT = 400
FUNCTION_LIMIT = 60
# A class is read as a whole, since each of its lines knows all of its fields. One of this size is likely
# to be two: look for the methods that share no field with the rest. A test's world has a verb a method.
CLASS_LIMIT = 300
PRONOUNS = {"each", "one"}
# Split so that this file does not name what it forbids.
REGISTRY = re.compile(
    "|".join(
        rf"{host}\.{domain}"
        for host, domain in (
            ("pypi", "org"),
            ("files.pythonhosted", "org"),
            ("proxy.golang", "org"),
            ("registry.npmjs", "org"),
            ("deb.debian", "org"),
            ("static.crates", "io"),
        )
    )
)


@dataclass(frozen=True)
class Source:
    """A file of the repository."""

    path: PurePosixPath  # from the root
    text: str

    @property
    def room(self) -> str:
        """The top folder that it stands in."""
        return self.path.parts[0]

    @property
    def is_python(self) -> bool:
        """Whether it is a module that people write: a released migration is edited by nobody."""
        return self.path.suffix == ".py" and "migrations" not in self.path.parts

    @cached_property
    def module(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text)


def tracked() -> list[Source]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        Source(PurePosixPath(name), (ROOT / name).read_text(errors="replace"))
        for name in names
        if (ROOT / name).is_file()
    ]


def misplaced(files: Sequence[Source]) -> Iterator[str]:
    """Modules whose place breaks imports elsewhere."""
    for file in files:
        if file.path.as_posix() == "operator/__init__.py":
            yield "operator/__init__.py would shadow the standard library's operator; delete it"
        if file.room == "operator" and file.path.name.startswith("test_"):
            yield f"{file.path}: tests stand under tests/, never under operator/"


def machine_bound(files: Sequence[Source]) -> Iterator[str]:
    """Text that works on one machine only."""
    for file in files:
        if file.path.suffix in {".sum", ".mod", ".png"}:
            continue
        for number, line in enumerate(file.text.splitlines(), start=1):
            if REGISTRY.search(line):
                yield f"{file.path}:{number}: names a package registry's host"
            if str(ROOT) in line and len(ROOT.parts) > 2:
                yield f"{file.path}:{number}: names the path of this checkout"


def oversized(files: Sequence[Source]) -> Iterator[str]:
    """Files, functions and the product's classes beyond the limits."""
    for file in files:
        if not file.is_python:
            continue
        lines = len(file.text.splitlines())
        if lines > FILE_LIMIT:
            yield f"{file.path}: {lines} lines; split it below {FILE_LIMIT}"
        for node in ast.walk(file.module):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    limit = FUNCTION_LIMIT
                case ast.ClassDef() if file.room != "tests":
                    limit = CLASS_LIMIT
                case _:
                    continue
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > limit:
                yield f"{file.path}:{node.lineno}: {node.name} has {size} lines; at most {limit}"


def undocumented(files: Sequence[Source]) -> Iterator[str]:
    """Modules that do not say which problem they solve."""
    for file in files:
        if (
            file.is_python
            and file.room != "tests"
            and file.text.strip()
            and not ast.get_docstring(file.module)
        ):
            yield f"{file.path}: a module opens with a docstring"


def pronouns(files: Sequence[Source]) -> Iterator[str]:
    """Loop variables that stand for a noun."""
    for file in files:
        if not file.is_python:
            continue
        for node in ast.walk(file.module):
            if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
                for name in ast.walk(node.target):
                    if isinstance(name, ast.Name) and name.id in PRONOUNS:
                        yield f"{file.path}:{name.lineno}: a loop variable named {name.id}; say what it is"


def main(arguments: Sequence[str]) -> int:
    """Print every breach; return the exit status, 1 if there is one."""
    if arguments[:1] == ["--message"]:
        found = [breach for breach in [check_subject(Path(arguments[1]).read_text())] if breach]
    else:
        files, lists = tracked(), Lists.load()
        rules = (misplaced, machine_bound, oversized, undocumented, pronouns, broad_handlers)
        found = [breach for rule in rules for breach in rule(files)]
        found += [breach for rule in LANGUAGE_RULES for breach in rule(files, lists)]
    for breach in found:
        print(breach, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
