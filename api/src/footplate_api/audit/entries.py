"""Audit log rows by column; pure.

Callers and clusters send texts of any length: each text is truncated to its column, and a truncated text
ends with a digest, so that two different texts stay different.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from footplate_api.identity.caller import Caller, Right
from footplate_api.models import audit

MOST_GROUPS: Final = 64  # of a caller
GROUPS_BYTES: Final = 1024  # of them all, as they are stored
_DIGEST: Final = 16  # characters


def truncate_text(text: str, most: int) -> str:
    """Return `text` with at most `most` characters, all of which any database stores.

    >>> truncate_text("system:admin", 512), truncate_text("x" * 30, 20)
    ('system:admin', 'xxx…666a596df2cf2181')
    """
    # Neither half of a surrogate pair nor a NUL is something that PostgreSQL stores.
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(clean) <= most:
        return clean
    digest = hashlib.sha256(clean.encode()).hexdigest()[:_DIGEST]
    return f"{clean[: most - _DIGEST - 1]}…{digest}"


def truncate_groups(groups: Sequence[str]) -> list[str]:
    """Return the first `groups` that fit into the column, followed by the number of the others.

    >>> truncate_groups(["team-a", "people"]), truncate_groups(["a" * 200] * 7)[5:]
    (['team-a', 'people'], ['…2 more'])
    """
    found: list[str] = []
    room = GROUPS_BYTES
    for group in groups[:MOST_GROUPS]:
        text = truncate_text(group, audit.LONGEST_NAME)
        room -= len(json.dumps(text)) + len(", ")
        if room < 0:
            break
        found.append(text)
    left = len(groups) - len(found)
    return [*found, f"…{left} more"] if left else found


def entry(caller: Caller, right: Right, request_id: str, at: datetime) -> dict[str, Any]:
    """Return the row of a request in which `caller` uses `right`."""
    kind = f"{right.resource}.{right.group}" if right.group else right.resource
    return {
        "at": at,
        "request_id": truncate_text(request_id, audit.LONGEST_ID),
        "username": truncate_text(caller.username, audit.LONGEST_USER),
        "user_uid": truncate_text(caller.uid, audit.LONGEST_NAME),
        "groups": truncate_groups(caller.groups),
        "verb": truncate_text(right.verb, audit.LONGEST_VERB),
        "resource": truncate_text(
            f"{kind}/{right.subresource}" if right.subresource else kind, audit.LONGEST_NAME
        ),
        "namespace": truncate_text(right.namespace, audit.LONGEST_NAMESPACE),
        "name": truncate_text(right.name, audit.LONGEST_NAME),
    }


def result(entry_id: int, status: int, at: datetime, message: str, name: str, uid: str) -> dict[str, Any]:
    """Return the row of a request's result."""
    return {
        "entry_id": entry_id,
        "at": at,
        "status": status,
        "message": truncate_text(message, audit.LONGEST_MESSAGE),
        "name": truncate_text(name, audit.LONGEST_NAME),
        "uid": truncate_text(uid, audit.LONGEST_ID),
    }
