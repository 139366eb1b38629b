"""House rule on handlers that catch every exception: few, at the edges only, each with its reason.

An edge is the main function of a process or thread, user code, or a library without exceptions of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeGuard

from tools.house_language import PRODUCT, Source

MOST: Final = 18  # in the product; it may only fall
_BROAD: Final = frozenset({"Exception", "BaseException"})
_REASON: Final = re.compile(r"#\s*(?:noqa: \w+ - )?(?!noqa)\w+\W+\w+\W+\w")  # three words


def broad_handlers(files: Sequence[Source], most: int = MOST) -> Iterator[str]:
    """Broad handlers of the product that give no reason, and the number of all where it is not `most`."""
    count = 0
    for file in files:
        if not file.is_python or file.room not in PRODUCT:
            continue
        lines = file.text.splitlines()
        for node in ast.walk(file.module):
            if not _is_broad(node):
                continue
            count += 1
            if not any(_REASON.search(line) for line in lines[max(node.lineno - 2, 0) : node.lineno]):
                yield f"{file.path}:{node.lineno}: catches every exception; a comment there must say why"
    if count > most:
        yield f"{count} handlers catch every exception, at most {most}; name those that can be raised"
    elif count < most:
        yield f"tools/house_handlers.py: MOST: lower {most} to {count}"


def _is_broad(node: ast.AST) -> TypeGuard[ast.ExceptHandler | ast.Call]:
    match node:
        case ast.ExceptHandler(type=None):
            return True
        case ast.ExceptHandler(type=ast.expr() as caught):
            return _names_all(caught)
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=caught):
            return any(map(_names_all, caught))
    return False


def _names_all(caught: ast.expr) -> bool:
    members = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(member, ast.Name) and member.id in _BROAD for member in members)
