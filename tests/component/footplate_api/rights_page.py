"""Which right each route takes, by the routes themselves, and the page of the documentation that tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi.routing import APIRoute

from footplate_api.app import ROUTERS
from footplate_api.http.public_paths import OPEN
from footplate_api.identity.caller import READ_METRICS, RUNS, Caller, Right
from footplate_api.identity.reviews import access_review
from footplate_api.identity.rights import READS_METRICS, RequiredRight

BOUND: Final = "team-a"
OTHER: Final = "team-b"
PEOPLE: Final = ("view", "edit", "admin", "nobody")
# What no review of Kubernetes decides.
OTHERWISE: Final = {
    "ingest_telemetry": "the token of the run's coordinator",
    "list_all_runs": "none; has the namespaces whose runs the caller may `list`",
    "list_costs": (
        "none; has the namespaces whose runs the caller may `list`;"
        " with `idle`: `list trainingruns` in all namespaces"
    ),
}

INTRODUCTION: Final = """<!-- Written by tests/component/footplate_api/test_rights.py under GOLDEN=write. -->

# Routes and rights

The table lists the API's routes, the right that each requires from Kubernetes, and which users have it:
`view`, `edit` and `admin`, each with a RoleBinding to that role in the namespace, and `nobody`, without one.
**+** is allowed, **–** is a 403. In other namespaces all four get a 403 wherever a right is required. A test
compares each cell with the API and a real API server. Check a right with `kubectl auth can-i`:

```sh
kubectl auth can-i delete trainingruns.footplate.dev/my-run --namespace team-a
```

"""


DOCUMENTS: Final = "`/docs` with its files, and `/openapi.json` require a token of any user and no right;\n"


@dataclass(frozen=True)
class Asked:
    """One method of one path; `demand` gives the right for namespace and name, None where none is asked.

    `says` tells it to people; empty of the page at /docs.
    """

    method: str
    path: str
    says: str
    demand: Callable[[str, str], Right] | None


def routes() -> Iterator[Asked]:
    """All that take a token, in the order of the application."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path not in OPEN:
                for method in sorted(route.methods - {"HEAD"}):
                    says, demand = _right(route)
                    yield Asked(method, route.path, says, demand)


def _right(route: APIRoute) -> tuple[str, Callable[[str, str], Right] | None]:
    asked = [dependency.dependency for dependency in route.dependencies]
    if READS_METRICS.dependency in asked:
        return f"`get` on the URL `{READ_METRICS.path}`", lambda namespace, name: READ_METRICS
    demand = next((found for found in asked if isinstance(found, RequiredRight)), None)
    if demand is not None:
        return _said(demand), lambda namespace, name: demand.resolve({"namespace": namespace, "name": name})
    if not route.include_in_schema:
        return "", None
    return OTHERWISE[route.name], None


def _said(demand: RequiredRight) -> str:
    what = f"{demand.resource}/{demand.subresource}" if demand.subresource else demand.resource
    of_all = " in all namespaces" if demand.everywhere and demand.resource == RUNS else ""
    where = ", by name" if demand.named else of_all
    return f"`{demand.verb} {what}`{where}"


def attributes(right: Right) -> dict[str, Any]:
    """What a review of whoever asks is about."""
    spec: dict[str, Any] = access_review(Caller("anybody"), right)["spec"]
    return {key: spec[key] for key in ("resourceAttributes", "nonResourceAttributes") if key in spec}


def page(table: Mapping[Asked, Mapping[tuple[str, str], bool]]) -> str:
    """Markdown; `table` has who may, by person and namespace.

    Raises AssertionError where somebody may in another namespace what a right is asked for.
    """
    lines = [f"| route | right | {' | '.join(PEOPLE)} |", f"|---|---|{':-:|' * len(PEOPLE)}"]
    for asked, answers in table.items():
        if asked.demand is None and not asked.says:
            continue
        bounded = asked.demand is not None and asked.demand(OTHER, "any").namespace
        assert not bounded or not any(answers[person, OTHER] for person in PEOPLE), asked
        cells = " | ".join("+" if answers[person, BOUND] else "–" for person in PEOPLE)
        lines.append(f"| `{asked.method} {asked.path}` | {asked.says} | {cells} |")
    told = "`, `".join(sorted(OPEN))
    return f"{INTRODUCTION}{chr(10).join(lines)}\n\n{DOCUMENTS}`{told}` require no token.\n"
