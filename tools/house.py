"""House rules that no ready-made linter knows.

- `operator/__init__.py` would shadow the standard library's `operator` for the whole interpreter, and a
  test below operator/ would do the same under importlib mode.
- A file that names a package registry or this checkout's own path works on one machine only.
- Files and functions have a size beyond which they are no longer read.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LIMIT = 400
FUNCTION_LIMIT = 60
# Split so that this file does not name what it forbids.
REGISTRY = re.compile(
    "|".join(
        rf"{host}\.{domain}"
        for host, domain in (
            ("pypi", "org"),
            ("files.pythonhosted", "org"),
            ("proxy.golang", "org"),
            ("registry.npmjs", "org"),
            ("deb.debian", "org"),
            ("static.crates", "io"),
        )
    )
)


def tracked() -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def misplaced(files: list[Path]) -> Iterator[str]:
    """Modules whose place breaks imports elsewhere."""
    for path in files:
        relative = path.relative_to(ROOT)
        if relative.as_posix() == "operator/__init__.py":
            yield "operator/__init__.py would shadow the standard library's operator; delete it"
        if relative.parts[0] == "operator" and path.name.startswith("test_"):
            yield f"{relative}: tests stand under tests/, never under operator/"


def machine_bound(files: list[Path]) -> Iterator[str]:
    """Text that works on one machine only."""
    for path in files:
        if path.suffix in {".sum", ".mod", ".png"}:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            place = f"{path.relative_to(ROOT)}:{number}"
            if REGISTRY.search(line):
                yield f"{place}: names a package registry's host"
            if str(ROOT) in line and len(ROOT.parts) > 2:
                yield f"{place}: names the path of this checkout"


def oversized(files: list[Path]) -> Iterator[str]:
    """Files and functions beyond the limits."""
    for path in files:
        if path.suffix != ".py" or "migrations" in path.parts:
            continue
        text = path.read_text()
        relative = path.relative_to(ROOT)
        lines = len(text.splitlines())
        if lines > FILE_LIMIT:
            yield f"{relative}: {lines} lines; split it below {FILE_LIMIT}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LIMIT:
                    yield f"{relative}:{node.lineno}: {node.name} has {size} lines; at most {FUNCTION_LIMIT}"


def undocumented(files: list[Path]) -> Iterator[str]:
    """Modules that do not say which problem they solve."""
    for path in files:
        relative = path.relative_to(ROOT)
        if path.suffix != ".py" or relative.parts[0] == "tests" or "migrations" in path.parts:
            continue
        text = path.read_text()
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            yield f"{relative}: a module opens with a docstring"


def main() -> int:
    """Prints every breach; exit status 1 when there is one."""
    files = tracked()
    found = [*misplaced(files), *machine_bound(files), *oversized(files), *undocumented(files)]
    for breach in found:
        print(breach, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
