"""What a run of the previous release left, as this release finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from tools.released import GOLDEN

from footplate_contracts.names import API_CA_FILE, Phase
from footplate_contracts.reports import CheckpointRecord
from footplate_operator.api_access import ApiAccess
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials
from footplate_operator.runtime.kinds import CONFIG_MAP, SECRET, Json
from footplate_operator.runtime.objects import controller_of
from footplate_operator.trainingrun.manifests.children import read_secret
from tests.support.operator_fakes import FakeCoordinator
from tests.support.operator_world import World

STORIES: Final = tuple(sorted(path.stem for path in GOLDEN.glob("*.json")))
_COORDINATORS: Final = TypeAdapter(dict[str, FakeCoordinator])


@dataclass(frozen=True)
class Found:
    """What one story left."""

    story: str
    now: datetime
    phase: str
    objects: list[Json]
    coordinators: dict[str, Any]  # by pod name
    saved: dict[str, Any]  # by uid of the run: its newest checkpoint

    def world(self, key_known: bool = True) -> World:
        """A world in which an operator of this release has just started; nothing else acts."""
        world = World()
        world.clock.moment = self.now
        for body in self.objects:
            world.cluster.put(body)
        world.coordinators = _COORDINATORS.validate_python(self.coordinators)
        for coordinator in world.coordinators.values():
            coordinator.saving = self.phase == Phase.CHECKPOINTING
        world.saved = {uid: CheckpointRecord.from_json(record) for uid, record in self.saved.items()}
        bundles = [
            body["data"][API_CA_FILE] for body in world.cluster.all(CONFIG_MAP) if API_CA_FILE in body["data"]
        ]
        if bundles:
            world.api = ApiAccess("https://api:8443", bundle=lambda: str(bundles[0]))
        if not key_known:
            world.keys.key = bytes(reversed(range(KEY_BYTES)))
        world.cluster.calls.clear()
        world.kubelet_works = world.trains = False
        world.start_operator()
        return world

    @property
    def credentials(self) -> dict[str, RunCredentials]:
        """What runs' Secrets hold, by uid of the run."""
        secrets = [body for body in self.objects if body["kind"] == SECRET.name]
        return {controller_of(body)["uid"]: read_secret(body) for body in secrets}


def found(story: str) -> Found:
    """What `story` left."""
    left = json.loads((GOLDEN / f"{story}.json").read_text())
    left["now"] = datetime.fromisoformat(left["now"])
    return Found(story, **left)
