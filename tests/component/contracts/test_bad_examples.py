"""What each wrong file of examples/bad/ is told, word for word, by `kubectl apply -f`.

The text that a user meets is part of the product: it changes on purpose only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.component.contracts.kube import ROOT, Kubectl
from tests.support.golden import assert_golden

BAD = sorted((ROOT / "examples" / "bad").glob("*.yaml"))
GOLDEN = ROOT / "tests" / "golden" / "bad"


@contextmanager
def in_its_pair(kubectl: Kubectl, path: Path) -> Iterator[None]:
    """Right before wrong, where two files are a pair: another worker may have had the right one."""
    if path.stem.endswith("-2"):
        kubectl("apply", "-f", str(path.with_stem(path.stem.removesuffix("-2") + "-1")))
    yield
    if path.stem.endswith(("-1", "-2")):
        kubectl("delete", "-f", str(path))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in BAD])
def test_message(kubectl: Kubectl, path: Path) -> None:
    with in_its_pair(kubectl, path):
        done = kubectl.run("apply", "--namespace=default", "-f", str(path.relative_to(ROOT)))
    assert_golden(f"bad/{path.stem}.txt", _sorted(done.stdout + done.stderr))
    assert (done.returncode == 0) == path.stem.endswith("-1")


def test_every_file_opens_with_what_is_wrong() -> None:
    unexplained = [path.name for path in BAD if not path.read_text().startswith(("# Wrong: ", "# Right"))]
    assert unexplained == []


def test_no_golden_text_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == [path.stem for path in BAD]


def _sorted(text: str) -> str:
    """`text` with its list in order (the API server goes through a map) and no blanks at line ends."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines[:1] + sorted(lines[1:]))
