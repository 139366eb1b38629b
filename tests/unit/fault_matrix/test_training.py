"""What the runs of cells read, made once for all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from footplate_trainer.data.layout import MANIFEST_FILE
from tests.system.faults.training import prepare


def prepared(shared: Path) -> dict[str, bytes]:
    """What stands there, by name."""
    return {str(path.relative_to(shared)): path.read_bytes() for path in shared.rglob("*") if path.is_file()}


def test_what_an_interrupted_one_left_is_made_anew(tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "interrupted"
    prepare(whole)
    assert any(name.endswith(MANIFEST_FILE) for name in prepared(whole))
    left = shared / "data/fault-prompts/shards"
    left.mkdir(parents=True)
    (left / "torn.bin").write_bytes(b"half")
    prepare(shared)
    assert prepared(shared).keys() == prepared(whole).keys()


def test_many_at_once_make_it_once(tmp_path: Path) -> None:
    def seen(_: int) -> dict[str, int]:
        prepare(tmp_path)
        return {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(seen, range(3))
    assert first and all(other == first for other in others)
