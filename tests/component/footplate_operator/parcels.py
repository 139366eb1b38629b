"""A kind of the tests' own: a Parcel has a ConfigMap for each item. As a program, an operator of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from footplate_contracts.base import Contract
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_contracts.v1alpha1.status import Condition
from footplate_operator.__main__ import KINDS
from footplate_operator.__main__ import main as operator
from footplate_operator.runtime.controller import Controller, OwnedKind
from footplate_operator.runtime.decision import Create, Decision, Delete, ReconcileProblem
from footplate_operator.runtime.kinds import CONFIG_MAP, Json, Kind
from footplate_operator.runtime.objects import Child, KubernetesObject, owner_reference

PARCEL = Kind("example.dev/v1", "Parcel", "parcels")
UID_LABEL = "example.dev/parcel-uid"
_ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SCHEMA = {"openAPIV3Schema": {**_ANY, "properties": {"spec": _ANY, "status": _ANY}}}
_VERSION = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": _SCHEMA}


def definition(kind: Kind) -> Json:
    """Return a CRD of the kind that accepts any spec and status."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"kind": kind.name, "plural": kind.plural, "singular": kind.name.lower()},
            "versions": [_VERSION],
        },
    }


class ParcelSpec(Contract):
    items: list[str]


class ParcelStatus(Contract):
    packed: int = 0
    conditions: list[Condition] = []


Parcel = KubernetesObject[ParcelSpec, ParcelStatus]


class Parcels(Controller[Parcel, Sequence[Child], Decision[ParcelStatus]]):
    kind = PARCEL
    noun = "parcel"
    uid_label = UID_LABEL
    owns = (OwnedKind(CONFIG_MAP, watched=True),)

    def decode(self, body: Json) -> Parcel:
        return Parcel.read(body, ParcelSpec, ParcelStatus)

    async def observe(
        self, parcel: Parcel, children: Sequence[Child], now: datetime, predecessors: Sequence[Child] = ()
    ) -> Sequence[Child]:
        return children

    def desire(
        self, parcel: Parcel, packed: Sequence[Child], problem: ReconcileProblem | None, now: datetime
    ) -> Decision[ParcelStatus]:
        wanted = {f"{parcel.name}-{item}" for item in parcel.spec.items}
        there = {child.name for child in packed}
        missing = tuple(Create(_config_map(parcel, name)) for name in wanted - there)
        surplus = tuple(Delete(child) for child in packed if child.name not in wanted)
        return Decision(status=ParcelStatus(packed=len(wanted & there)), changes=(missing, surplus))


def _config_map(parcel: Parcel, name: str) -> Json:
    metadata = {
        "name": name,
        "namespace": parcel.namespace,
        "labels": {MANAGED_BY_LABEL: MANAGED_BY, UID_LABEL: parcel.uid},
        "ownerReferences": [owner_reference(PARCEL, parcel)],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


@asynccontextmanager
async def parcels(*_: Any) -> AsyncIterator[Parcels]:
    yield Parcels()


def main() -> int:
    return operator({**KINDS, Parcels: parcels})
