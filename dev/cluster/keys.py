"""Content keys: the name of a thing is a hash of everything that decides what it is.

A cache whose names are content keys needs no invalidation: other content is another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

KEY_LENGTH = 16  # hex digits: 64 bits, short enough to read in a path


def content_key(parts: Iterable[tuple[str, bytes]]) -> str:
    """A key for named pieces of content. Order matters, and so do the names."""
    digest = hashlib.sha256()
    for name, content in parts:
        # Lengths in front, so that no two different lists of parts read as the same bytes.
        for field in (name.encode(), content):
            digest.update(len(field).to_bytes(8, "big"))
            digest.update(field)
    return digest.hexdigest()[:KEY_LENGTH]


def file_parts(root: Path, names: Iterable[str]) -> list[tuple[str, bytes]]:
    """Named contents of the files that exist, with whether each may be executed."""
    parts: list[tuple[str, bytes]] = []
    for name in sorted(set(names)):
        path = root / name
        if path.is_symlink():
            parts.append((f"{name}@", str(path.readlink()).encode()))
        elif path.is_file():
            executable = "*" if path.stat().st_mode & 0o100 else ""
            parts.append((name + executable, path.read_bytes()))
    return parts
