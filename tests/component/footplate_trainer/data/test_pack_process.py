"""`pack` as a process: repeatable, killable, and honest about a full disk."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_trainer.data.shards import TokenShards

PACK = [sys.executable, "-m", "footplate_trainer", "pack"]


def packed(out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PACK, "python-docs:", str(out), "--vocabulary-size", "1024", *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def checksums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    first = packed(tmp_path / "one", "--shard-tokens", "50000", PYTHONHASHSEED="1", RAYON_NUM_THREADS="1")
    second = packed(tmp_path / "two", "--shard-tokens", "50000", PYTHONHASHSEED="2", RAYON_NUM_THREADS="3")
    assert first.returncode == second.returncode == ExitCode.SUCCESS, first.stderr + second.stderr
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    shards = TokenShards.open(str(tmp_path / "one"), verify=(0, 1))
    assert len(shards.manifest.shards) > 2
    assert "[pack] encoding: 0.5 MB in " in first.stderr
    assert first.stdout.startswith(f"{tmp_path}/one: {shards.tokens} tokens of {shards.documents} documents")


def test_a_killed_pack_leaves_no_half_folder_and_the_next_one_succeeds(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "a line of text that is packed again and again"}\n' * 20_000)
    # Thousands of shards: it is not done before the signal arrives.
    arguments = [str(text), str(out), "--vocabulary-size", "400", "--shard-tokens", "100"]
    process = subprocess.Popen([*PACK, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (partial / "shard-00001.bin").exists():
        assert process.poll() is None and time.monotonic() < deadline, "it wrote no shard in time"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()

    assert packed(out).returncode == ExitCode.SUCCESS
    assert TokenShards.open(str(out), verify=(0, 1)).documents < 20_000
    assert not partial.exists()


def test_no_room_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [*PACK, "python-docs:", str(tmp_path / "out"), "--vocabulary-size", "1024"],
        preexec_fn=small_files_only,
        # Modules that are compiled here would be cut off as well, and break every later import of them.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.STORAGE
    assert done.stderr.splitlines()[-1].endswith(
        "out: the file size limit is reached; nothing was written there"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["data.pack", "data.loader", "manifest"])
def test_torch_is_not_needed(module: str) -> None:
    code = f"import sys, footplate_trainer.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
