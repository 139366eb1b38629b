"""What a container may still take, from the files in which the kernel says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from footplate_trainer.parallel.device_memory import container_room, container_size, get_available_memory

MIB = 2**20


@pytest.mark.parametrize(
    ("limit", "expected", "size"),
    [
        pytest.param(str(512 * MIB), 512 - 300 + 100, 512, id="limited"),
        pytest.param(str(200 * MIB), 0, 200, id="more-in-use-than-allowed"),
        pytest.param(str(2**40), 4096, 8192, id="more-than-the-machine-has"),
        pytest.param("max", 4096, 8192, id="without-a-limit"),
        pytest.param(None, 4096, 8192, id="on-the-machine-itself"),
    ],
)
def test_a_container_has_its_limit_less_what_it_uses(
    limit: str | None, expected: int, size: int, tmp_path: Path
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{300 * MIB}\n")
        (tmp_path / "memory.stat").write_text(f"anon {90 * MIB}\ninactive_file {100 * MIB}\n")
    assert container_room(tmp_path, tmp_path / "meminfo") == expected * MIB
    assert container_size(tmp_path, tmp_path / "meminfo") == size * MIB


def test_two_ranks_share_what_there_is() -> None:
    one, two = (get_available_memory(torch.device("cpu"), ranks) for ranks in (1, 2))
    assert 0 < two.left < one.left and 0 < two.most < one.most
