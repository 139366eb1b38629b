"""Cache of Nodes, from the watch and from reads of the API server.

If this replica may not read Nodes, it knows none, and concludes nothing from that. A closed watch
never reports what was deleted meanwhile; so the cache reads again the Nodes that others miss.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Scheduling
from footplate_operator.errors import ClusterError, NotFound, RequestForbidden
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import NODE, Json
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.node import NodeView, view_node
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.packing import GangPacking
from footplate_operator.trainingrun.policies import node_disruption

ASK_AGAIN: Final = timedelta(seconds=5)
_REFUSED: Final = timedelta(minutes=5)  # a right that is missing stays so for a while
_ANSWER_SECONDS: Final = 2.0  # a hint is not worth more waiting
_MOST_ABSENT: Final = 10_000


class NodeCache:
    """Cached Nodes by name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, NodeView] = {}
        self._tainted: dict[str, set[str]] = {}  # key of a taint -> names of Nodes that have it
        self._absent: OrderedDict[str, str] = OrderedDict()  # name of a Node that is gone -> its uid
        self._ask_from: dict[str, datetime] = {}  # by name: before that it was asked about just now
        # By the key of a label that was asked for: its values by the names of the Nodes that have it.
        self._labelled: dict[str, dict[str, str]] = {}
        self._stands: dict[str, dict[str, str]] = {}  # uid of a run -> where its pods are, by their uids
        self._runs: dict[str, dict[str, Key]] = {}  # name of a Node -> runs that have pods there, by uid
        self._first: dict[str, str] = {}  # uid of a pod -> uid of the Node that it was first seen on

    # -- what is known -------------------------------------------------------------------

    def put(self, body: Json) -> list[Key]:
        """Store the current version of a Node; return the runs with pods there, if it changes for them."""
        fresh = view_node(body)
        known = self._known.get(fresh.name)
        if self._absent.get(fresh.name) == fresh.uid or (known is not None and known.version > fresh.version):
            return []
        self._absent.pop(fresh.name, None)
        self._learn(fresh.name, fresh)
        same = known is not None and known.is_equivalent(fresh)
        if known is not None and same and all(known.label(key) == fresh.label(key) for key in self._labelled):
            return []
        return self._runs_on(fresh.name)

    def drop(self, body: Json) -> list[Key]:
        """Remove a deleted Node; return the runs that have pods there."""
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        known = self._known.get(name)
        if known is not None and known.uid != uid:
            return []  # another one has its name by now
        self._bury(name, uid)
        return self._runs_on(name)

    def get(self, name: str) -> NodeView | None:
        """Return the Node of this name; None if it is not known."""
        return self._known.get(name)

    async def refresh(self, names: Iterable[str], now: datetime) -> None:
        """Read Nodes again before the operator concludes anything from them; drop those it may not read."""
        self._ask_from = {name: due for name, due in self._ask_from.items() if due > now}
        wanted = {name for name in names if name} - self._ask_from.keys()
        self._ask_from |= dict.fromkeys(wanted, now + ASK_AGAIN)
        await asyncio.gather(*(self._ask(name, now) for name in sorted(wanted)))

    # -- what follows for pods -----------------------------------------------------------

    def track_pods(self, key: Key, uid: str, pods: Iterable[PodView]) -> None:
        """Note the nodes of a run's pods, to find the runs that a change of a Node concerns."""
        there = {pod.uid: pod.node for pod in pods if pod.node and not pod.ended}
        self._leave(uid, self._stands.get(uid, {}), there)
        self._stands[uid] = there
        for name in there.values():
            self._runs.setdefault(name, {})[uid] = key
        for pod, name in there.items():
            if (known := self._known.get(name)) is not None:
                self._first.setdefault(pod, known.uid)

    def forget(self, uid: str) -> None:
        """Forget a run that is gone, or ended long ago."""
        self._leave(uid, self._stands.pop(uid, {}), {})

    def list_disruptions(self, scheduling: Scheduling) -> dict[str, str]:
        """Return the Nodes that are about to end for pods of such a profile, with the reason as text."""
        keys = {named.key for named in scheduling.disruption_taints}
        tainted = {name for key in keys for name in self._tainted.get(key, ())}
        words = {
            name: node_disruption.get_disruption_reason(self._known[name].taints, scheduling)
            for name in sorted(tainted)
        }
        return {name: said for name, said in words.items() if said}

    def filter_schedulable(self, names: Iterable[str], scheduling: Scheduling) -> frozenset[str]:
        """Return the `names` of Nodes to which the scheduler would bind pods of such a profile."""
        return frozenset(
            name for name in names if node_disruption.is_schedulable(self._known[name].taints, scheduling)
        )

    def complete(self, pod: PodView, ending: Mapping[str, str]) -> PodView:
        """Return `pod` with the state of its Node; `ending`: the result of the method `ending`."""
        if not pod.node:
            return pod
        lost = self._lost(pod)
        # Its pods are collected within a minute.
        deleted = pod.node not in self._known and pod.node in self._absent
        notice = f"the Node {pod.node} is deleted" if deleted else ending.get(pod.node, "")
        if not lost and not notice:
            return pod
        return replace(pod, node_lost=lost, notice=notice, cordoned=notice == node_disruption.CORDONED)

    # -- topology ------------------------------------------------------------------------

    def list_labelled(self, key: str) -> Mapping[str, str]:
        """Return the values of a label by the names of the Nodes that have it."""
        if key not in self._labelled:
            values = {name: node.label(key) for name, node in self._known.items()}
            self._labelled[key] = {name: value for name, value in values.items() if value}
        return self._labelled[key]

    def packing(
        self, scheduling: Scheduling, nodes: int, pods: Iterable[PodView], failed: frozenset[str]
    ) -> GangPacking | None:
        """Return the topology domains of a run's `pods`; None if its profile packs nothing.

        Args:
            nodes: the number that its gang needs.
            failed: domains in which it was incomplete of late.
        """
        pack = scheduling.pack
        if pack is None:
            return None
        key, labelled = pack.topology_key, self.list_labelled(pack.topology_key)
        found = {pod.node for pod in pods if pod.node in labelled and pod.role != Role.COORDINATOR}
        return GangPacking(
            pack,
            {node: labelled[node] for node in sorted(found)},
            lambda: failed | self.list_narrow_domains(key, scheduling, nodes),
        )

    def has_label(self, key: str, scheduling: Scheduling) -> bool:
        """Return whether a Node for such a profile has the label, or none is known that might have it."""
        there = self._selected(self._known, scheduling)
        labelled = self.list_labelled(key)
        return not there or any(name in labelled for name in there)

    def list_narrow_domains(self, key: str, scheduling: Scheduling, nodes: int) -> frozenset[str]:
        """Return the domains of a label that have less than `nodes` usable Nodes without a run's pod."""
        labelled = self.list_labelled(key)
        free = Counter(
            labelled[name]
            for name in self._selected(labelled.keys() - self._runs.keys(), scheduling)
            if not self._known[name].unheard
            and node_disruption.is_schedulable(self._known[name].taints, scheduling)
        )
        return frozenset(domain for domain in labelled.values() if free[domain] < nodes)

    def _selected(self, names: Iterable[str], scheduling: Scheduling) -> list[str]:
        """Return the `names` of Nodes that the profile's nodeSelector selects."""
        wanted = [(self.list_labelled(key), value) for key, value in scheduling.node_selector.items()]
        return [name for name in names if all(values.get(name) == value for values, value in wanted)]

    # -- particulars ---------------------------------------------------------------------

    def _lost(self, pod: PodView) -> str:
        known = self._known.get(pod.node)
        if known is None:
            return "its Node is deleted" if pod.node in self._absent else ""
        if self._first.get(pod.uid, known.uid) != known.uid:
            return "its Node was recreated"
        return known.unheard

    async def _ask(self, name: str, now: datetime) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self.put(await self._cluster.get(NODE, "", name))
        except NotFound:
            known = self._known.get(name)
            self._bury(name, known.uid if known is not None else "")
        except RequestForbidden:
            self._learn(name, None)
            self._ask_from[name] = now + _REFUSED
        except (ClusterError, TimeoutError):
            return  # nothing new is known

    def _runs_on(self, name: str) -> list[Key]:
        return list(self._runs.get(name, {}).values())

    def _learn(self, name: str, fresh: NodeView | None) -> None:
        """Store the current view of a Node; None: remove it."""
        before = self._known.pop(name, None)
        for taint in before.taints if before is not None else ():
            self._tainted[taint.key].discard(name)
        for key, values in self._labelled.items():
            values.pop(name, None)
            if fresh is not None and (value := fresh.label(key)):
                values[name] = value
        if fresh is not None:
            self._known[name] = fresh
            for taint in fresh.taints:
                self._tainted.setdefault(taint.key, set()).add(name)

    def _bury(self, name: str, uid: str) -> None:
        self._learn(name, None)
        self._absent[name] = uid
        while len(self._absent) > _MOST_ABSENT:
            self._absent.popitem(last=False)

    def _leave(self, uid: str, before: Mapping[str, str], there: Mapping[str, str]) -> None:
        """Forget the pods of a run, and their Nodes, that were there `before` and are not any more."""
        for pod in before.keys() - there.keys():
            self._first.pop(pod, None)
        for name in set(before.values()).difference(there.values()):
            self._runs[name].pop(uid, None)
            if not self._runs[name]:
                del self._runs[name]
