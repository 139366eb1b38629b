"""Rules on docstrings, names and commit subjects, by example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from tools import house_language as language
from tools.house import Source

LISTS = replace(language.Lists.load(), shared_classes={}, allowed_openings={}, allowed_texts={})


def source(path: str, text: str) -> Source:
    return Source(PurePosixPath(path), text)


@pytest.mark.parametrize(
    ("rule", "path", "text", "found"),
    [
        pytest.param(
            language.openings, "api/a.py", '"""What it is."""', 1, id="module-that-begins-with-what"
        ),
        pytest.param(
            language.openings, "api/a.py", '"""Rejects senders."""', 0, id="module-says-what-it-does"
        ),
        pytest.param(language.openings, "api/a.py", 'class A:\n    """Whose it is."""', 1, id="class"),
        pytest.param(language.openings, "api/a.py", 'def f():\n    """Whether."""', 1, id="function"),
        pytest.param(language.openings, "api/a.py", 'def f():\n    """Returns it."""', 1, id="third-person"),
        pytest.param(language.openings, "api/a.py", 'def f():\n    """Return it."""', 0, id="imperative"),
        pytest.param(language.openings, "api/a.py", 'def f():\n    """`when`, else now."""', 1, id="quoted"),
        pytest.param(language.openings, "api/a.py", 'def _f():\n    """How."""', 0, id="private"),
        pytest.param(
            language.openings, "api/a.py", 'class A:\n    def f(self):\n        """How."""', 1, id="method"
        ),
        pytest.param(language.openings, "tests/a.py", '"""What it is."""', 0, id="no-product"),
        pytest.param(language.texts, "api/a.py", 'A = "nobody was asked"', 1, id="text"),
        pytest.param(language.texts, "api/a.py", 'A = f"{x} was told {x}"', 1, id="formatted-text"),
        pytest.param(language.texts, "api/a.py", 'A = "one" " of which"', 1, id="text-in-two-pieces"),
        pytest.param(language.texts, "api/a.py", 'A = "rollout.stop: needs a tokenizer"', 0, id="plain-text"),
        pytest.param(language.texts, "api/a.py", 'A = "ask"', 0, id="one-word"),
        pytest.param(language.texts, "api/a.py", 'def f():\n    """Return all asked."""', 0, id="docstring"),
        pytest.param(language.private_names, "api/appraising.py", "", 1, id="module-named-by-a-participle"),
        pytest.param(language.private_names, "api/goods_list.py", "", 1, id="module-with-a-private-word"),
        pytest.param(
            language.private_names, "api/a.py", "class Strays: ...", 1, id="class-of-a-private-word"
        ),
        pytest.param(language.private_names, "api/a.py", "class _Strays: ...", 0, id="private-class"),
        pytest.param(language.private_names, "api/a.py", "class Orphans: ...", 0, id="class-of-a-noun"),
        pytest.param(language.private_names, "api/a.py", "def tell_all(): ...", 1, id="function"),
        pytest.param(language.private_names, "api/a.py", "def storytelling(): ...", 0, id="part-of-a-word"),
        pytest.param(language.private_names, "api/a.py", "class KeptRollout: ...", 1, id="vague-class"),
        pytest.param(language.private_names, "api/a.py", "class RunNotFound: ...", 0, id="term-of-the-field"),
        pytest.param(language.stage_names, "api/a.py", "x = Stage.DPO", 1, id="stage-by-name"),
        pytest.param(
            language.stage_names,
            "contracts/src/footplate_contracts/stages.py",
            "x = Stage.DPO",
            0,
            id="table",
        ),
        pytest.param(language.stage_names, "tests/a.py", "x = Stage.DPO", 0, id="stage-in-a-test"),
    ],
)
def test_a_rule_finds(
    rule: Callable[[Sequence[Source], language.Lists], Iterable[str]], path: str, text: str, found: int
) -> None:
    assert len(list(rule([source(path, text)], LISTS))) == found


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        pytest.param(0, 2, id="above"),
        pytest.param(2, 0, id="as-many"),
        pytest.param(3, 1, id="to-be-lowered"),
    ],
)
def test_the_number_of_old_openings_may_only_fall(allowed: int, found: int) -> None:
    files = [source("api/a.py", '"""What."""'), source("api/b.py", '"""Who."""')]
    lists = replace(LISTS, allowed_openings={"api": allowed})
    assert len(list(language.openings(files, lists))) == found


@pytest.mark.parametrize(
    ("first", "second", "reasons", "found"),
    [
        pytest.param(("api/a.py", "Run"), ("api/b.py", "Run"), {}, 1, id="one-distribution"),
        pytest.param(("api/a.py", "Run"), ("operator/b.py", "Run"), {}, 1, id="two"),
        pytest.param(("api/a.py", "Run"), ("operator/b.py", "Run"), {"Run": "why"}, 0, id="with-a-reason"),
        pytest.param(("api/a.py", "Run"), ("api/b.py", "Job"), {"Run": "why"}, 1, id="reason-of-the-past"),
        pytest.param(("api/a.py", "_Run"), ("api/b.py", "_Run"), {}, 0, id="private"),
        pytest.param(("tests/a.py", "Run"), ("tests/b.py", "Run"), {}, 0, id="tests"),
    ],
)
def test_a_class_name_stands_once(
    first: tuple[str, str], second: tuple[str, str], reasons: dict[str, str], found: int
) -> None:
    files = [source(path, f"class {name}: ...") for path, name in (first, second)]
    assert len(list(language.shared_classes(files, replace(LISTS, shared_classes=reasons)))) == found


@pytest.mark.parametrize(
    ("subject", "right"),
    [
        ("operator: keep a succeeded run's coordinator until its rows are stored", True),
        ("tests: let `make faults` go on", True),
        ("Merge branch 'main'", True),
        ("Leave a coordinator all its time", False),
        ("operator: Keep it", False),
        ("operator: keep it.", False),
        ("operator:keep it", False),
        ("operator: " + "x" * 63, False),
    ],
)
def test_a_commit_has_a_scope_and_says_what_it_does(subject: str, right: bool) -> None:
    assert (language.check_subject(f"{subject}\n\nThe reason.") == "") is right
