"""What the house rules find, and what they leave alone."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath

import pytest
from tools import house
from tools.house import Source
from tools.house_handlers import broad_handlers

from tests.support.nonempty import nonempty


def source(path: str, text: str) -> Source:
    return Source(PurePosixPath(path), text)


def body(lines: int) -> str:
    """The rest of a class or function that has `lines` lines."""
    return "\n" + "    x = 1\n" * (lines - 1)


def handler(of: str) -> str:
    return f"try: pass\nexcept {of}\n  pass"


REASONED = "Exception:  # user code may raise it"
TUPLE = "(OSError, BaseException):  # noqa: BLE001"
SUPPRESSED = "with suppress(Exception):  # the edge of a thread\n  pass"
no_handlers = partial(broad_handlers, most=0)
one_handler = partial(broad_handlers, most=1)


@pytest.mark.parametrize(
    ("rule", "path", "text", "found"),
    [
        pytest.param(house.misplaced, "operator/__init__.py", "", 1, id="shadows-the-standard-library"),
        pytest.param(house.misplaced, "operator/src/a/test_b.py", "", 1, id="test-below-operator"),
        pytest.param(house.misplaced, "tests/unit/a/test_b.py", "", 0, id="test-in-its-place"),
        pytest.param(
            house.machine_bound, "docs/a.md", f"cd {house.ROOT}/docs", 1, id="path-of-this-checkout"
        ),
        pytest.param(house.oversized, "api/a.py", "x = 1\n" * 400, 0, id="file-at-the-limit"),
        pytest.param(house.oversized, "api/a.py", "x = 1\n" * 401, 1, id="file-above-it"),
        pytest.param(house.oversized, "api/a.py", "def f():" + body(60), 0, id="function-at-the-limit"),
        pytest.param(house.oversized, "api/a.py", "def f():" + body(61), 1, id="function-above-it"),
        pytest.param(house.oversized, "api/a.py", "class A:" + body(300), 0, id="class-at-the-limit"),
        pytest.param(house.oversized, "api/a.py", "class A:" + body(301), 1, id="class-above-it"),
        pytest.param(house.oversized, "tests/support/a.py", "class A:" + body(301), 0, id="world-of-a-test"),
        pytest.param(house.undocumented, "api/a.py", "x = 1", 1, id="no-docstring"),
        pytest.param(house.undocumented, "api/__init__.py", "", 0, id="empty-file"),
        pytest.param(house.undocumented, "tests/a.py", "x = 1", 0, id="a-test-may-lack-it"),
        pytest.param(house.undocumented, "api/migrations/a.py", "x = 1", 0, id="a-migration-may-lack-it"),
        pytest.param(house.pronouns, "api/a.py", "for each in names: pass", 1, id="loop"),
        pytest.param(house.pronouns, "api/a.py", "x = [one for i, (one, _) in pairs]", 1, id="comprehension"),
        pytest.param(house.pronouns, "api/a.py", "for name in each: pass", 0, id="a-noun"),
        pytest.param(no_handlers, "api/a.py", handler("ValueError:"), 0, id="handler-of-one-error"),
        pytest.param(no_handlers, "tests/a.py", handler("Exception:"), 0, id="handler-of-a-test"),
        pytest.param(no_handlers, "api/a.py", handler("Exception:"), 2, id="handler-of-all-without-reason"),
        pytest.param(no_handlers, "api/a.py", handler(TUPLE), 2, id="in-a-tuple"),
        pytest.param(no_handlers, "api/a.py", handler(REASONED), 1, id="one-too-many"),
        pytest.param(one_handler, "api/a.py", handler(REASONED), 0, id="with-reason"),
        pytest.param(one_handler, "api/a.py", SUPPRESSED, 0, id="suppressed"),
        pytest.param(one_handler, "api/a.py", "x = 1", 1, id="maximum-to-be-lowered"),
    ],
)
def test_a_rule_finds(
    rule: Callable[[Sequence[Source]], Iterable[str]], path: str, text: str, found: int
) -> None:
    assert len(list(rule([source(path, text)]))) == found


def test_every_kind_is_held_to_the_import_contracts() -> None:
    """Its decisions are pure, and the machinery does not know it."""
    tools = tomllib.loads((house.ROOT / "pyproject.toml").read_text())["tool"]
    contracts = {contract["name"]: contract for contract in tools["importlinter"]["contracts"]}
    pure = contracts["decisions of the operator are pure"]["source_modules"]
    unknown = contracts["the machinery of the operator knows no kind"]["forbidden_modules"]
    operator = house.ROOT / "operator" / "src" / "footplate_operator"
    for controller in nonempty(list(operator.glob("*/controller.py"))):
        kind = f"footplate_operator.{controller.parent.name}"
        if kind != "footplate_operator.runtime":
            assert any(module.startswith(f"{kind}.") for module in pure), f"{kind}: no pure module"
            assert kind in unknown
