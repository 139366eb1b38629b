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
    "ingest_telemetry": "the coordinator of the run",
    "list_all_runs": "nothing; shows the namespaces whose runs one may `list`",
    "list_costs": "nothing; shows the namespaces whose runs one may `list`; of `idle` all namespaces",
}

INTRODUCTION: Final = """<!-- Written by tests/component/footplate_api/test_rights.py under GOLDEN=write. -->

# Routes and rights

What each route of the API asks Kubernetes, and who in a namespace has that right: people to whom `view`,
`edit` or `admin` is bound there by a RoleBinding, and somebody (`nobody`) to whom nothing is bound. **+** is
allowed, **–** is answered with 403. In any other namespace all four are refused whatever takes a right. A
test asks a real API server and the API for each cell, and they agree: `kubectl auth can-i` tells it before.

```sh
kubectl auth can-i delete trainingruns.footplate.dev/my-run --namespace team-a
```

"""


DOCUMENTS: Final = "`/docs`, what it loads, and `/openapi.json` take a token of anybody and no right;\n"


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
    where = ", by its name" if demand.named else of_all
    return f"`{demand.verb} {what}`{where}"


def attributes(right: Right) -> dict[str, Any]:
    """What a review of whoever asks is about."""
    spec: dict[str, Any] = access_review(Caller("anybody"), right)["spec"]
    return {key: spec[key] for key in ("resourceAttributes", "nonResourceAttributes") if key in spec}


def page(table: Mapping[Asked, Mapping[tuple[str, str], bool]]) -> str:
    """Markdown; `table` has who may, by person and namespace.

    Raises AssertionError where somebody may in another namespace what a right is asked for.
    """
    lines = [f"| route | asks for | {' | '.join(PEOPLE)} |", f"|---|---|{':-:|' * len(PEOPLE)}"]
    for asked, answers in table.items():
        if asked.demand is None and not asked.says:
            continue
        bounded = asked.demand is not None and asked.demand(OTHER, "any").namespace
        assert not bounded or not any(answers[person, OTHER] for person in PEOPLE), asked
        cells = " | ".join("+" if answers[person, BOUND] else "–" for person in PEOPLE)
        lines.append(f"| `{asked.method} {asked.path}` | {asked.says} | {cells} |")
    told = "`, `".join(sorted(OPEN))
    return f"{INTRODUCTION}{chr(10).join(lines)}\n\n{DOCUMENTS}`{told}` take no token.\n"
