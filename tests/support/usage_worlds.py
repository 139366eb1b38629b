"""Pods, nodes and prices as the ledger knows them: certain ones, and any that could be; sums of a bill."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.account import Cost
from footplate_ledger.carbon import IntensitySeries
from footplate_ledger.conversion import parse_time
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import Energy, HourlyRate, Power, Seconds
from footplate_ledger.usage import (
    RUNNING,
    TOLD,
    EndTime,
    MeasuredEnergy,
    NodeLifetime,
    Owner,
    PodAllocation,
    PowerProfile,
    Sku,
)
from tests.support.ledger_reference import BillLine, cost_of

T0: Final = parse_time("2026-11-25T10:00:00Z")
HOUR: Final = 3600
DAY: Final = 86400
H100: Final = Sku("h100", Capacity.ON_DEMAND, "eu-1")
SPOT: Final = Sku("h100", Capacity.SPOT, "eu-1")
CPU: Final = Sku("local-cpu")
SITE: Final = PowerProfile(Power(Fraction(700)), Power(Fraction(1000)), Fraction("1.2"), carbon_zone="FRA")
RUN: Final = Owner("TrainingRun", "research", "gpt", "uid-gpt")


def pod(uid: str = "p1", **changed: Any) -> PodAllocation:
    """A worker that holds all eight devices of node n1 for an hour."""
    site = replace(SITE, region=H100.region, provider="aws")
    usual = PodAllocation(
        uid,
        RUN,
        Role.WORKER,
        1,
        "n1",
        H100,
        T0,
        EndTime(TOLD, T0 + HOUR),
        devices=8,
        cpu=Fraction(4),
        site=site,
        name=f"name-of-{uid}",
    )
    return replace(usual, **changed)


def node(uid: str = "n1", **changed: Any) -> NodeLifetime:
    """A node of eight devices that is there."""
    usual = NodeLifetime(
        uid, f"name-of-{uid}", H100, T0, EndTime(RUNNING, T0), devices=8, cpu=Fraction(64), provider="aws"
    )
    return replace(usual, **changed)


SERIES: Final = IntensitySeries(
    {"series": [(T0 + day * DAY + day, Fraction(40 + day)) for day in range(0, 20, 3)]}
)


@dataclass
class World:
    """Pods of some runs on some nodes, and what they are priced by."""

    nodes: list[NodeLifetime] = field(default_factory=list)
    pods: list[PodAllocation] = field(default_factory=list)
    entries: list[PriceBookEntry] = field(default_factory=list)

    @property
    def book(self) -> PriceBook:
        return PriceBook(self.entries)


def world(chance: random.Random, runs: int = 4, nodes: int = 3, pods: int = 14) -> World:
    """Anything that could be: overlaps, nodes that nobody told of, coordinators, prices that change."""
    made = World()
    for number in range(nodes):
        sku = chance.choice([H100, SPOT, CPU])
        devices = 0 if sku is CPU else 8
        start = T0 + chance.randrange(-DAY, DAY)
        end = EndTime(chance.choice([RUNNING, TOLD]), start + chance.randrange(1, 40 * DAY))
        made.nodes.append(node(f"n{number}", sku=sku, devices=devices, start=start, end=end))
    for number in range(pods):
        run = chance.randrange(runs)
        owner = Owner("TrainingRun", f"team-{run % 2}", f"run-{run}", f"uid-{run}")
        where = chance.randrange(nodes + 1)  # one of which nobody but its pods tells
        sku = made.nodes[where].sku if where < nodes else chance.choice([H100, SPOT, CPU])
        start = T0 + chance.randrange(0, 30 * DAY)
        ended = chance.choice([RUNNING, 1, TOLD, TOLD])
        made.pods.append(
            pod(
                f"p{number}",
                owner=owner,
                role=chance.choice([Role.WORKER, Role.WORKER, Role.SPARE, Role.COORDINATOR]),
                attempt=chance.randrange(1, 4),
                node=f"n{where}",
                sku=sku,
                start=start,
                end=EndTime(ended, start + chance.randrange(1, 10 * DAY)),
                devices=0 if sku is CPU else chance.choice([0, 3, 4, 8]),
                cpu=Fraction(chance.randrange(0, 9000), 1000),
                site=replace(
                    chance.choice(
                        [
                            SITE,
                            PowerProfile(),
                            replace(SITE, carbon_zone="series"),
                            replace(SITE, node_watts=None),
                        ]
                    ),
                    provider="aws",
                    region=sku.region,
                ),
                measured=_measured(chance),
                node_devices=0 if sku is CPU else chance.choice([0, 8, 8, 16]),
            )
        )
    for number in range(8):
        begins = T0 + chance.randrange(-DAY, 40 * DAY)
        made.entries.append(
            PriceBookEntry(
                f"e{number}",
                replace(chance.choice([H100, SPOT, CPU]), region=chance.choice(["", "eu-1"])),
                HourlyRate(Fraction(chance.randrange(10**11))),
                begins,
                begins + chance.randrange(1, 60 * DAY),
                T0 + chance.randrange(0, 50 * DAY),
                supersedes=chance.choice([None, None, f"e{number - 1}"]),
            )
        )
    return made


def _measured(chance: random.Random) -> MeasuredEnergy:
    if chance.random() < 0.5:
        return MeasuredEnergy()
    return MeasuredEnergy(
        Energy(Fraction(chance.randrange(10**12))),
        Seconds(Fraction(chance.randrange(10**5))),
        Seconds(Fraction(chance.randrange(10**4))),
    )


def tellings(chance: random.Random, pods: Sequence[PodAllocation]) -> list[PodAllocation]:
    """What an operator may have told of them on its way: earlier states, each any number of times."""
    told = []
    for known in pods:
        seen = known.start + chance.randrange(1, DAY)
        early = replace(known, end=EndTime(RUNNING, seen), measured=MeasuredEnergy())
        told += [early] * chance.randrange(0, 3) + [known] * chance.randrange(1, 3)
    chance.shuffle(told)
    return told


# -- sums of the lines of a bill -------------------------------------------------------------------


def by_pod(found: Iterable[BillLine]) -> Mapping[str, Cost]:
    """Costs by the uid of the pod; IDLE among them."""
    sums: dict[str, Cost] = defaultdict(Cost)
    for line in found:
        sums[line.pod] = sums[line.pod] + cost_of(line)
    return sums


def sum_of(found: Iterable[BillLine]) -> Cost:
    """The cost of all of them."""
    return sum(map(cost_of, found), Cost())
