"""Runs as the previous release left them, on a real API server: its uids, its defaults, our CRDs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from footplate_contracts.base import digest
from footplate_contracts.names import config_map_name
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    REVISION,
    SECRET,
    SERVICE,
    Json,
    Kind,
    kind_of,
)
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.component.footplate_operator.api import Api
from tests.support.connection import ask, refused
from tests.support.released.found import Found

CHILDREN: Final = (POD, SECRET, CONFIG_MAP, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY, REVISION)
NOBODY: Final = "127.0.0.2"  # where no coordinator listens: one that is heard as little as all is not lost
_TIME: Final = re.compile(r'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)(?:Z|\+00:00)"')
_ADDRESS: Final = re.compile(r'"10\.0\.0\.\d+"')
_OF_THE_SERVER: Final = ("uid", "resourceVersion", "creationTimestamp")


@dataclass(frozen=True)
class Planted:
    """What one story left, in a namespace of its own."""

    story: str
    api: Api

    def children(self) -> dict[str, tuple[str, str]]:
        """Uid and resourceVersion of each child; a pod's Secret that is read is one, too."""
        found = ((kind, body["metadata"]) for kind in CHILDREN for body in self.api.find(kind))
        return {f"{kind.name} {own['name']}": (own["uid"], own["resourceVersion"]) for kind, own in found}

    def condition(self, kind: str) -> Json:
        """One condition of its run, empty before there is one."""
        conditions = self.api.status("tiny").get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})


def plant(server: Api, story: Found, names: dict[str, str], api_url: str) -> Planted:
    """Put what `story` left into a namespace of its name, as if it had happened a moment ago.

    Args:
        names: of other objects that this server has, by those of the story.
    """
    namespace, names = story.story, dict(names)
    _send(server, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    api = replace(server, namespace=namespace)
    kept = [
        body for body in story.objects if body["kind"] in {kind.name for kind in (TRAINING_RUN, *CHILDREN)}
    ]
    text = _shifted(json.dumps(kept), datetime.now(UTC) - story.now).replace("https://api:8443", api_url)
    bodies: list[Json] = json.loads(_ADDRESS.sub(f'"{NOBODY}"', text))
    for body in sorted(bodies, key=_rank):
        made = _send(api, "POST", _kind(body).path(namespace), _with(body, names, namespace))
        names[body["metadata"]["uid"]] = made["metadata"]["uid"]
        if _kind(body) == REVISION:
            # Its config names the run's uid.
            names[config_map_name("tiny", digest(body["data"]["config"]))] = config_map_name(
                "tiny", digest(_with(body, names, namespace)["data"]["config"])
            )
    for body in (_with(body, names, namespace) for body in bodies if "status" in body):
        path = _kind(body).path(namespace, body["metadata"]["name"], "status")
        _send(api, "PATCH", path, {"status": body["status"]})
    return Planted(story.story, api)


def nodes(stories: Iterable[Found]) -> list[str]:
    """Names of the nodes that their pods are on."""
    pods = (body for story in stories for body in story.objects if body["kind"] == POD.name)
    return sorted({body["spec"]["nodeName"] for body in pods if "nodeName" in body["spec"]})


def _kind(body: Json) -> Kind:
    return kind_of(body, (TRAINING_RUN, *CHILDREN))


def _shifted(text: str, by: timedelta) -> str:
    def later(found: re.Match[str]) -> str:
        moment = (datetime.fromisoformat(found[1]).replace(tzinfo=UTC) + by).replace(tzinfo=None)
        return f'"{moment.isoformat(timespec="milliseconds" if "." in found[1] else "seconds")}Z"'

    return _TIME.sub(later, text)


def _rank(body: Json) -> int:
    """An owner comes before what it owns, and the revision before whatever bears its digest."""
    return [TRAINING_RUN, REVISION].index(_kind(body)) if _kind(body) in (TRAINING_RUN, REVISION) else 2


def _with(body: Json, names: dict[str, str], namespace: str) -> Json:
    """`body` as it is sent: in this namespace, with the names of this server."""
    text = json.dumps(body)
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"').replace(f'\\"{old}\\"', f'\\"{new}\\"')
    sent: Json = json.loads(text)
    told = {name: value for name, value in sent["metadata"].items() if name not in _OF_THE_SERVER}
    return {**sent, "metadata": {**told, "namespace": namespace}}


def _send(api: Api, method: str, path: str, body: Json) -> Json:
    status, answer = ask(api.kubeconfig, method, path, body)
    assert not refused(status), f"{method} {path}: {status} {answer}"
    return answer
