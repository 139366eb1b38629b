"""What an agent has in memory before it imports torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from footplate_elastic.agent import torch_libraries

def there():
    mapped = Path("/proc/self/maps").read_text().splitlines()
    return {line.split("/")[-1] for line in mapped if "libtorch" in line}

assert torch_libraries.load() and "torch" not in sys.modules
loaded = there()
import torch
assert there() == loaded, there() ^ loaded
assert torch.ones(2).sum() == 2
print(sorted(loaded))
"""


def _told(program: str) -> str:
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not told.returncode, told.stderr
    return told.stdout.strip()


def test_the_import_finds_all_of_torchs_libraries_loaded() -> None:
    assert "libtorch_cpu.so" in _told(PROGRAM)


def test_one_that_is_not_there_is_left_to_the_import(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    assert (
        _told(f"{first}\nfrom footplate_elastic.agent import torch_libraries as it; print(it.load())")
        == "False"
    )
