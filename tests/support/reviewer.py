"""Reviews as an API server makes them: whose tokens there are, and what their owners may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from footplate_api.errors import ClusterUnavailable
from footplate_api.identity.caller import POD_UID, Caller, Right
from footplate_contracts.names import API_AUDIENCE

ADMIN: Final = "token-of-an-admin"
BEARER: Final = {"Authorization": f"Bearer {ADMIN}"}


def everything(right: Right) -> bool:
    """What cluster-admin may do."""
    return True


def within(*namespaces: str, verbs: Sequence[str] = ("get", "list", "watch")) -> Callable[[Right], bool]:
    """What a RoleBinding in each of `namespaces` lets do."""
    return lambda right: right.namespace in namespaces and right.verb in verbs


@dataclass
class FakeReviewer:
    """`tokens` by their text, with the audiences that they are for; `grants` by user name.

    `available = False` is an API server that does not answer. `asked` notes what was asked.
    """

    tokens: dict[str, tuple[Caller, frozenset[str]]] = field(default_factory=dict)
    grants: dict[str, Callable[[Right], bool]] = field(default_factory=dict)
    available: bool = True
    asked: list[str | Right] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(ADMIN, Caller("admin", groups=("system:masters",)), everything)

    def add(
        self,
        token: str,
        caller: Caller,
        grants: Callable[[Right], bool],
        audience: str = API_AUDIENCE,
    ) -> dict[str, str]:
        """A token of `caller`, who may do what `grants` says; returns the headers of its requests."""
        self.tokens[token] = caller, frozenset({audience})
        self.grants[caller.username] = grants
        return {"Authorization": f"Bearer {token}"}

    def add_pod(self, token: str, uid: str, namespace: str) -> dict[str, str]:
        """A token of a pod, whose service account has no right; returns the headers of its requests."""
        account = Caller(f"system:serviceaccount:{namespace}:default", extra=((POD_UID, (uid,)),))
        return self.add(token, account, lambda right: False)

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        self._answer(token)
        caller, meant = self.tokens.get(token, (None, frozenset()))
        return caller if meant & set(audiences or ("kubernetes",)) else None

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        self._answer(right)
        return self.grants[caller.username](right)

    def _answer(self, asked: str | Right) -> None:
        self.asked.append(asked)
        if not self.available:
            raise ClusterUnavailable("The Kubernetes API server does not answer (Fake).")


class Asked:
    """Answers with `answer`, or that the API server is away."""

    def __init__(self, answer: object) -> None:
        self.answer: object = answer
        self.times = 0
        self.away = False

    def __call__(self) -> Awaitable[object]:
        return self._answer()

    async def _answer(self) -> object:
        self.times += 1
        if self.away:
            raise ClusterUnavailable("away")
        return self.answer
