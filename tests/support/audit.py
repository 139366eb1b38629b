"""What an API server noted of the requests that it was asked: who, which verb, of what.

with api_server(folder, flags=audit.flags(folder)) as server: ...
for request in audit.Log(folder).of("system:serviceaccount:ns:name"): ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],  # a watch is noted as it begins, too
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


@dataclass(frozen=True)
class Request:
    """One that was answered."""

    user: str
    verb: str
    group: str
    resource: str  # with its subresource, as in a role
    namespace: str
    name: str
    code: int
    dry_run: bool

    @property
    def writes(self) -> bool:
        """Whether something may be another after it."""
        return self.verb not in ("get", "list", "watch") and not self.dry_run


def flags(folder: Path) -> Mapping[str, str]:
    """Flags of an API server that notes what service accounts ask of it, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    policy = folder / "audit-policy.json"
    policy.write_text(json.dumps(_POLICY))
    return {"audit-policy-file": str(policy), "audit-log-path": str(folder / "audit.log")}


@dataclass
class Log:
    """The notes in a folder; each request is told once."""

    folder: Path
    _read: int = 0  # bytes

    def of(self, user: str) -> Iterator[Request]:
        """Requests of `user` since somebody looked last."""
        with (self.folder / "audit.log").open("rb") as notes:
            notes.seek(self._read)
            text = notes.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if (request := _request(json.loads(line))) is not None and request.user == user:
                yield request


def _request(note: dict[str, object]) -> Request | None:
    target, user, status = note.get("objectRef"), note["user"], note.get("responseStatus")
    if not isinstance(target, dict) or not isinstance(user, dict):
        return None
    parts = (target.get("resource"), target.get("subresource"))
    return Request(
        user=str(user.get("username")),
        verb=str(note["verb"]),
        group=str(target.get("apiGroup", "")),
        resource="/".join(part for part in parts if part),
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        code=int(status.get("code", 0)) if isinstance(status, dict) else 0,
        dry_run="dryRun=All" in str(note.get("requestURI", "")),
    )
