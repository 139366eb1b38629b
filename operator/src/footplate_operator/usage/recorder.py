"""Usage of the pods of all kinds, and the prices, profiles and Nodes that it depends on: one per replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from footplate_ledger.usage import MeasuredEnergy, Owner
from footplate_operator.profiles import PROFILE, ProfileCache
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import NODE, POD, Json, Kind
from footplate_operator.runtime.objects import KubernetesObject, controller_of
from footplate_operator.scope import EVERYTHING, Scope
from footplate_operator.tariff.price_entry_writer import PriceEntryWriter
from footplate_operator.tariff.tariffs import KINDS as TARIFF_KINDS
from footplate_operator.tariff.tariffs import TariffCache
from footplate_operator.usage.node_tracker import NodeUsageTracker
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.pod_observation import PodObservation, observe_labelled_pod
from footplate_operator.usage.pods import PodProfile
from footplate_operator.usage.sweep import Sweeper
from footplate_operator.usage.tracker import UsageTracker

KEPT_FOR: Final = timedelta(days=7)  # that nobody has taken
UNKNOWN_PROFILE: Final = PodProfile()


class UsageRecorder:
    """Recorder of all owners' usage. `now` is a clock in UTC, `kinds` are those of the owners.

    Records that nobody has taken are deleted after `kept_for`; `scope` is what this installation manages.
    """

    def __init__(
        self,
        cluster: Cluster,
        now: Callable[[], datetime],
        kinds: Iterable[Kind],
        kept_for: timedelta = KEPT_FOR,
        scope: Scope = EVERYTHING,
    ) -> None:
        self.profiles = ProfileCache(cluster)
        self.tariffs = TariffCache(cluster, now)
        self.prices = PriceEntryWriter(cluster, self.tariffs, now)
        by_name = {kind.name: kind for kind in kinds}
        nodes = NodeUsageTracker(
            cluster, now, self.profiles.readable, self.tariffs.list_priced_profiles, scope.cluster
        )
        self.tracker = UsageTracker(cluster, now, nodes, by_name)
        self._sweeper = Sweeper(cluster, self.tracker, kept_for, scope)
        self._writes_prices = scope.cluster
        self._corrections: dict[Kind, dict[str, int]] = {}  # by kind that changed, for each owners' kind
        self._kinds = tuple(by_name)

    def observe_event(
        self,
        owners: Kind,
        kind: Kind,
        body: Json,
        gone: bool,
        observe: Callable[[Json], PodObservation] = observe_labelled_pod,
    ) -> None:
        """Handle an event of an owner of the kind `owners`, or of a pod, which `observe` reads.

        Events of other kinds are ignored. The pod's controller is its owner.
        """
        if kind == owners:
            self.tracker.observe_owner(_read_owner(body, {**body["metadata"], "kind": kind.name}), gone)
        elif kind == POD:
            self.tracker.observe_pod(_read_owner(body, controller_of(body)), observe(body), gone)

    def observe_parameter(self, teller: Kind, kind: Kind, body: Json, gone: bool) -> int | None:
        """Handle an event of a Node, a profile, a price or an intensity; every kind may tell of it.

        Returns the second since which amounts of the objects of the kind `teller` may be others; None if they
        stand.
        """
        if kind == NODE:
            (self.tracker.nodes.drop if gone else self.tracker.nodes.put)(body)
        elif kind == PROFILE:
            self._observe_profile(body, gone)
        elif kind in TARIFF_KINDS:
            since = (self.tariffs.drop if gone else self.tariffs.put)(kind, body)
            left = self._corrections.setdefault(kind, {})
            if since is not None:
                left |= {name: min(since, left.get(name, since)) for name in self._kinds}
            return left.pop(teller.name, None)
        return None

    def _observe_profile(self, body: Json, gone: bool) -> None:
        if gone:
            self.profiles.drop(body["metadata"]["name"])
        else:
            self.profiles.put(body)
            self.prices.enqueue(body)
        self.tracker.nodes.rematch_profiles()

    async def record(
        self,
        owner: Owner,
        pods: Sequence[PodObservation],
        terms: PodProfile = UNKNOWN_PROFILE,
        attempt: Callable[[int], int] = lambda start: 1,
        measured: Mapping[str, MeasuredEnergy] | None = None,
    ) -> OwnerUsage | None:
        """Record all pods of an owner as seen, whatever controls them; return its usage.

        It is None until the owner's records were read. For the arguments see `UsageTracker.record_pods`.
        """
        return await self.tracker.record_pods(owner, terms, pods, attempt, measured or {})

    async def run(self) -> None:
        """Write prices and records while this replica leads; never ends."""
        prices = [self.prices.run()] if self._writes_prices else []
        going_on = (*prices, self.tariffs.run_relists(), self._sweeper.run())
        works = [asyncio.ensure_future(work) for work in going_on]
        try:
            await asyncio.gather(*works)  # the first error is raised as it is
        finally:
            for work in works:
                work.cancel()


def owner_of(kind: Kind, owner: KubernetesObject[Any, Any]) -> Owner:
    """Return an object of this kind as the owner of pods."""
    return Owner(kind.name, owner.namespace, owner.name, owner.uid)


def _read_owner(body: Json, named: Mapping[str, Any]) -> Owner:
    """Return the owner that is `named`, in the namespace of `body`."""
    kind, name, uid = (str(named.get(key, "")) for key in ("kind", "name", "uid"))
    return Owner(kind, str(body["metadata"].get("namespace", "")), name, uid)
