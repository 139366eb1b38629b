"""What a route asks of its caller: said where the route is, and decided before its parameters are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request

from footplate_api.identity.authorization import Authorization
from footplate_api.identity.caller import LIST_EVERYWHERE, READ_METRICS, RUNS, Caller, Right
from footplate_api.identity.gate import CALLER

# As FastAPI reads a boolean: whatever it might take for true is asked for.
_FALSE: Final = frozenset({"", "0", "false", "off", "f", "no", "n"})


def caller(request: Request) -> Caller:
    """Who sends `request`; raises KeyError on a path that is open to everybody."""
    found = request.scope[CALLER]
    assert isinstance(found, Caller)
    return found


def authorization(request: Request) -> Authorization:
    """That of the application that answers `request`."""
    found = request.app.state.authorization
    assert isinstance(found, Authorization)
    return found


Calling = Annotated[Caller, Depends(caller)]
Authorizing = Annotated[Authorization, Depends(authorization)]


@dataclass(frozen=True)
class Demand:
    """A right on the namespace of the path, and on its name where `named`; a dependency of a route.

    The words of the path are taken as they are: whoever may not read a namespace learns nothing from
    what is wrong with the rest.
    """

    verb: str
    resource: str = RUNS
    subresource: str = ""
    named: bool = False

    async def __call__(self, request: Request) -> None:
        """Raises Forbidden."""
        may, who = authorization(request), caller(request)
        await may.demand(who, self.right(request.path_params))
        await _lists_former(request)

    def right(self, path: dict[str, Any]) -> Right:
        """What is asked for a path with these parameters."""
        return Right(
            self.verb,
            self.resource,
            subresource=self.subresource,
            namespace=str(path["namespace"]),
            name=str(path["name"]) if self.named else "",
        )


def asks_for_former(request: Request) -> bool:
    """Whether runs of namespaces that are gone are wanted: only who may read all namespaces sees them."""
    given = request.query_params.getlist("formerNamespaces")
    return any(value.strip().lower() not in _FALSE for value in given)


async def _lists_former(request: Request) -> None:
    if asks_for_former(request):
        await authorization(request).demand(caller(request), LIST_EVERYWHERE)


async def _reads_metrics(request: Request) -> None:
    if request.app.state.context.access.metrics_public:
        return
    await authorization(request).demand(caller(request), READ_METRICS)


def may(verb: str, *, named: bool = False, subresource: str = "") -> Any:
    """A dependency that lets those pass who may do `verb` to runs of the path's namespace."""
    return Depends(Demand(verb, subresource=subresource, named=named))


LISTS_FORMER: Final = Depends(_lists_former)
READS_METRICS: Final = Depends(_reads_metrics)
