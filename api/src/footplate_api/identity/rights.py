"""Rights that routes require: declared at the route, and checked before its parameters are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, Request

from footplate_api.dependencies import context, of_state
from footplate_api.errors import Forbidden
from footplate_api.http.error_handlers import request_id
from footplate_api.identity.authentication_middleware import CALLER
from footplate_api.identity.authorization import Authorization
from footplate_api.identity.caller import LIST_EVERYWHERE, READ_METRICS, RUNS, Caller, Right

# As FastAPI reads a boolean: whatever it might take for true is asked for.
_FALSE: Final = frozenset({"", "0", "false", "off", "f", "no", "n"})
_TRUE: Final = frozenset({"1", "true", "on", "t", "yes", "y"})
# One character more than an object can have: it names none, as little as what is longer still.
_NAMESPACE: Final = 64
_NAME: Final = 254


class RefusedWrites(Protocol):
    """Record of writes that callers may not do."""

    async def record(self, caller: Caller, right: Right, refusal: Forbidden, request_id: str) -> None:
        """Record the refusal, unless the caller has too many; raises DatabaseUnavailable."""


def get_caller(request: Request) -> Caller:
    """Return the caller of `request`; raises KeyError on a path that is open to everybody."""
    found = request.scope[CALLER]
    assert isinstance(found, Caller)
    return found


get_authorization = of_state("authorization", Authorization)
Calling = Annotated[Caller, Depends(get_caller)]
Authorizing = Annotated[Authorization, Depends(get_authorization)]


@dataclass(frozen=True)
class RequiredRight:
    """Route dependency: a right on the namespace of the path, and on its name if `named`.

    The parameters of the path are used as they are, and truncated if they are too long: a caller that may not
    read a namespace learns nothing from errors in the others. `everywhere`: in all namespaces, by a path that
    names none.
    """

    verb: str
    resource: str = RUNS
    subresource: str = ""
    named: bool = False
    everywhere: bool = False

    async def __call__(self, request: Request) -> None:
        """Raise Forbidden, after recording it if it was a write; or else DatabaseUnavailable.

        A caller with too many refusals gets the same response, without a record.
        """
        may, who = get_authorization(request), get_caller(request)
        right = self.resolve(request.path_params)
        try:
            await may.require(who, right)
        except Forbidden as refusal:
            if right.is_write and not is_dry_run(request):
                refusals: RefusedWrites = request.app.state.refusals
                await refusals.record(who, right, refusal, request_id(request))
            raise
        await _lists_former(request)

    def resolve(self, path: dict[str, Any]) -> Right:
        """Return the right that a path with these parameters requires."""
        return Right(
            self.verb,
            self.resource,
            subresource=self.subresource,
            namespace="" if self.everywhere else namespace_of(path),
            name=name_of(path) if self.named else "",
        )


def namespace_of(path: dict[str, Any]) -> str:
    """Return the namespace in a path's parameters, to be stored and echoed: truncated if it cannot be one."""
    return str(path["namespace"])[:_NAMESPACE]


def name_of(path: dict[str, Any]) -> str:
    """Return the name in a path's parameters, to be stored and echoed: truncated if it cannot be one.

    >>> name_of({"name": "gpt"}), len(name_of({"name": "a" * 1000}))
    ('gpt', 254)
    """
    return str(path["name"])[:_NAME]


def includes_former(request: Request) -> bool:
    """Return whether runs of deleted namespaces are requested, which needs rights on all namespaces."""
    return _asks_for(request, "formerNamespaces")


def _asks_for(request: Request, name: str) -> bool:
    given = request.query_params.getlist(name)
    return any(value.strip().lower() not in _FALSE for value in given)


def is_dry_run(request: Request) -> bool:
    """Return whether the request is a dry run, which changes nothing; an ambiguous value is none."""
    given = request.query_params.getlist("dryRun")
    return bool(given) and all(value.strip().lower() in _TRUE for value in given)


async def _lists_former(request: Request) -> None:
    if includes_former(request):
        await get_authorization(request).require(get_caller(request), LIST_EVERYWHERE)


async def _sees_all_costs(request: Request) -> None:
    if any(_asks_for(request, name) for name in ("idle", "shareIdle")) or includes_former(request):
        await get_authorization(request).require(get_caller(request), LIST_EVERYWHERE)


async def _reads_metrics(request: Request) -> None:
    if context(request).access.metrics_public:
        return
    await get_authorization(request).require(get_caller(request), READ_METRICS)


def require_right(
    verb: str, resource: str = RUNS, *, named: bool = False, subresource: str = "", everywhere: bool = False
) -> Any:
    """Return a dependency that requires the right to `verb` on runs of the path's namespace, or of all.

    A cluster-scoped `resource` counts as one of all namespaces.
    """
    return Depends(RequiredRight(verb, resource, subresource, named, everywhere))


LISTS_FORMER: Final = Depends(_lists_former)
SEES_ALL_COSTS: Final = Depends(_sees_all_costs)  # what nobody held is everybody's, or the administrator's
READS_METRICS: Final = Depends(_reads_metrics)
