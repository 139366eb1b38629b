"""The recipes of CONTRIBUTING.md work, and a test finds each step that is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = ROOT / "tests" / "recipes"
NAMES: Final = tuple(sorted(page.stem for page in FOLDER.glob("*.md")))
_FENCE: Final = re.compile(r"^( *)```(diff|sh)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Lines that a file gets below its `anchor`, or a new file where there is none."""

    path: str
    anchor: str  # a whole line, or its beginning before …
    inserted: str

    @staticmethod
    def parse(block: str) -> Step:
        """Parse a block of a recipe: the file, its anchor, and the lines to insert."""
        header, *lines = block.splitlines()
        anchors = [line[1:] for line in lines if line.startswith(" ")]
        added = [line[1:] for line in lines if line.startswith("+")]
        assert header.startswith("+++ ") and added and len(anchors) <= 1, block
        assert len(anchors) + len(added) == len(lines) and not (anchors and lines[0][0] != " "), block
        return Step(header.removeprefix("+++ "), "".join(anchors), "\n".join(added) + "\n")

    def apply(self, tree: Path) -> None:
        """Apply the step; AssertionError unless its anchor occurs once."""
        if not self.anchor:
            self._create(tree)
            return
        file = tree / self.path
        lines = file.read_text().splitlines(keepends=True)
        start, is_prefix, _ = self.anchor.partition("…")
        places = [
            place
            for place, line in enumerate(lines)
            if (line.startswith(start) if is_prefix else line == start + "\n")
        ]
        assert len(places) == 1, f"{self.path}: {self.anchor!r} occurs {len(places)} times"
        lines.insert(places[0] + 1, self.inserted)
        file.write_text("".join(lines))

    def _create(self, tree: Path) -> None:
        """Create a file; NEWEST is the highest number of the files in its folder, and NEXT the one above."""
        numbers = [
            int(file.name[:4]) for file in (tree / self.path).parent.glob("*.py") if file.name[:4].isdigit()
        ]
        path, text = self.path, self.inserted
        for word, number in (("NEWEST", max(numbers, default=0)), ("NEXT", max(numbers, default=0) + 1)):
            path, text = path.replace(word, f"{number:04}"), text.replace(word, f"{number:04}")
        assert not (tree / path).exists(), path
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)


@dataclass(frozen=True)
class Recipe:
    """Steps of a page, and the commands that follow them."""

    steps: tuple[Step, ...]
    generates: bool
    tests: tuple[str, ...]

    @staticmethod
    @cache
    def read(name: str) -> Recipe:
        """Read the page of that name."""
        steps, commands = [], []
        for indent, language, block in _FENCE.findall((FOLDER / f"{name}.md").read_text()):
            text = "".join(line.removeprefix(indent) for line in block.splitlines(keepends=True))
            if language == "diff":
                steps.append(Step.parse(textwrap.dedent(text)))
            else:
                commands += text.splitlines()
        *earlier, last = commands
        assert earlier in ([], ["make gen"]) and last.startswith("pytest "), commands
        return Recipe(tuple(steps), bool(earlier), tuple(last.split()[1:]))

    def apply(self, tree: Path, without: int | None = None) -> None:
        """Apply all steps but the one numbered `without`, from 0."""
        for number, step in enumerate(self.steps):
            if number != without:
                step.apply(tree)


@dataclass(frozen=True)
class Checkout:
    """Copy of this checkout's files in `path`."""

    path: Path

    @staticmethod
    def copy(path: Path) -> Checkout:
        """Copy the files that git tracks, or would track."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        return Checkout(path)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, whose packages it imports."""
        sources = [*sorted(self.path.glob("*/src")), self.path, self.path / "dev"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GOLDEN"))
        }
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, sources)), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True)

    def generate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `make gen`, or check it by `--check`."""
        return self.run("tools/gen.py", *arguments)

    def test(self, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run `tests` up to the first failure."""
        return self.run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)


EVERY_STEP = [
    pytest.param(name, number, id=f"{name}-{number + 1}")
    for name in NAMES
    for number in range(len(Recipe.read(name).steps))
]


@pytest.mark.parametrize("name", NAMES)
def test_the_named_tests_pass_after_all_steps(tmp_path: Path, name: str) -> None:
    recipe, checkout = Recipe.read(name), Checkout.copy(tmp_path)
    recipe.apply(tmp_path)
    if recipe.generates:
        generated = checkout.generate()
        assert generated.returncode == 0, generated.stderr
    tested = checkout.test(recipe.tests)
    assert tested.returncode == 0, tested.stdout


@pytest.mark.long
@pytest.mark.parametrize(("name", "omitted"), EVERY_STEP)
def test_a_step_that_is_left_out_is_found(tmp_path: Path, name: str, omitted: int) -> None:
    recipe, checkout = Recipe.read(name), Checkout.copy(tmp_path)
    recipe.apply(tmp_path, without=omitted)
    if recipe.generates and checkout.generate().returncode:
        return
    tested = checkout.test(recipe.tests)
    assert tested.returncode in (1, 2), tested.stdout  # a test failed, or cannot be imported


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NAMES if Recipe.read(name).generates])
def test_what_is_not_generated_anew_is_found(tmp_path: Path, name: str) -> None:
    Recipe.read(name).apply(tmp_path := Checkout.copy(tmp_path).path)
    checked = Checkout(tmp_path).generate("--check")
    assert checked.returncode == 1 and "is out of date" in checked.stderr


@pytest.mark.parametrize("name", NAMES)
def test_contributing_links_the_recipe(name: str) -> None:
    assert f"(tests/recipes/{name}.md)" in (ROOT / "CONTRIBUTING.md").read_text()
