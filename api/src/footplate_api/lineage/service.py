"""Reads the lineage of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from footplate_api.db.database import ReadSession
from footplate_api.lineage import repository
from footplate_api.lineage.schemas import DEPTH, MOST, LineageQuery, LineageReference, LineageRun, RunLineage
from footplate_api.registry import lookup
from footplate_api.registry import repository as run_repository
from footplate_api.serialization import tolerant_json


async def read_lineage(session: ReadSession, namespace: str, name: str, query: LineageQuery) -> RunLineage:
    """Return a run's ancestors and descendants; raises RunNotFound."""
    run = await lookup.find(session, namespace, name, query.uid, query.former_namespaces)
    asked = await run_repository.spec_of(session, run.uid)
    found = await repository.find_references(session, run.namespace, run.uid, DEPTH + 1, MOST + 1)
    up, cut_up = _nearest(row for row in found if row.direction == repository.UP)
    down, cut_down = _nearest(row for row in found if row.direction == repository.DOWN)
    own = LineageRun(
        uid=run.uid,
        name=run.name,
        stage=run.stage,
        phase=run.phase,
        deleted_at=run.deleted_at,
        data=data_uris(asked.spec.get("data")),
        data_digest=_digest(run.status.get("data")),
        path=_path(run.namespace, run.name, run.uid, query),
    )
    named = {reference.uid for reference in up + down} | {reference.run_uid for reference in up + down}
    ends = (about for row in found for about in _runs(row, run.namespace, query))
    others = {about.uid: about for about in ends if about.uid in named}
    return RunLineage(
        run_uid=run.uid,
        ancestors=up,
        descendants=down,
        runs=[own, *(about for uid, about in others.items() if uid != run.uid)],
        truncated=cut_up or cut_down,
    )


def _nearest(rows: Iterable[Any]) -> tuple[list[LineageReference], bool]:
    """Return the references to show, and whether any are left out."""
    known = list(rows)
    shown = [row for row in known if row.depth <= DEPTH][:MOST]
    return [_reference(row) for row in shown], len(shown) < len(known)


def _reference(row: Any) -> LineageReference:
    return LineageReference(
        depth=row.depth,
        run_uid=row.run_uid,
        field=row.field,
        uid=row.other_uid,
        name=row.other_name,
        step=row.step,
        uri=row.uri,
        digest=row.digest,
    )


def _digest(read: object) -> str | None:
    return tolerant_json.text(read, "digest", 64) if isinstance(read, dict) else None


def _path(namespace: str, name: str, uid: str, query: LineageQuery) -> str:
    """Return the API path of a stored run, with the `formerNamespaces` of `query`."""
    former = "&formerNamespaces=true" if query.former_namespaces else ""
    return f"/v1/namespaces/{quote(namespace)}/runs/{quote(name)}?uid={quote(uid)}{former}"


def _runs(row: Any, namespace: str, query: LineageQuery) -> Iterator[LineageRun]:
    """Yield both ends of a reference; an end that was never seen has only what the reference states."""
    told = row._mapping
    for uid, prefix in ((row.run_uid, "by"), (row.other_uid, "of")):
        known = told[f"{prefix}_name"]
        name = known or row.other_name
        yield LineageRun(
            uid=uid,
            name=name,
            stage=told[f"{prefix}_stage"],
            phase=told[f"{prefix}_phase"],
            deleted_at=told[f"{prefix}_deleted_at"],
            data=data_uris(told[f"{prefix}_data"]),
            data_digest=_digest(told[f"{prefix}_read"]),
            path=_path(namespace, name, uid, query) if known else None,
        )


def data_uris(data: object) -> list[str]:
    """Return the URIs of the data sets in a spec's `data`; those of other runs are in the references.

    >>> data_uris({"uri": "/a"}), data_uris({"sources": [{"uri": "/a"}, {"uri": "/b"}]}), data_uris(None)
    (['/a'], ['/a', '/b'], [])
    """
    said: Mapping[str, Any] = data if isinstance(data, dict) else {}
    places = [said, *tolerant_json.items(said, "sources")]
    return [uri for place in places if (uri := tolerant_json.text(place, "uri", 1024))]
