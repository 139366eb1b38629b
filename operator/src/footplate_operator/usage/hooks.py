"""Hooks of a kind whose pods are recorded by the role and the profile in their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from footplate_operator.runtime.controller_hooks import ControllerHooks
from footplate_operator.runtime.kinds import POD, Json, Kind
from footplate_operator.runtime.objects import Child, view_child
from footplate_operator.usage.pod_observation import PodObservation, observe_labelled_pod
from footplate_operator.usage.recorder import UsageRecorder


@dataclass(frozen=True, kw_only=True)
class ObservedPod(Child):
    """A pod as a child, with its use."""

    observation: PodObservation


class UsageHooks(ControllerHooks[Any]):
    """Hooks of the owners' kind `owners`: they report its objects and their pods to `recorder`."""

    def __init__(self, recorder: UsageRecorder, owners: Kind) -> None:
        self._recorder = recorder
        self._owners = owners

    def observe_event(self, kind: Kind, body: Json, gone: bool) -> None:
        self._recorder.observe_event(self._owners, kind, body, gone)

    def view(self, kind: Kind, body: Json) -> Child:
        child = view_child(kind, body)
        return ObservedPod(**vars(child), observation=observe_labelled_pod(body)) if kind == POD else child


def list_observations(children: Iterable[Child]) -> list[PodObservation]:
    """Return the observations of the pods among an object's children."""
    return [child.observation for child in children if isinstance(child, ObservedPod)]
