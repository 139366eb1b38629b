"""Computes this month's costs, and lists running pods, for scrapes.

A month of many runs takes seconds to add up, and no scrape waits so long: this task does it repeatedly, on
the replica that exports the runs' gauges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final

from footplate_api.costs import grouping, steps
from footplate_api.costs.grouping import Dimension
from footplate_api.costs.rows import CostKind, CostLine
from footplate_api.costs.service import CostService, ResolvedCostQuery
from footplate_api.db.database import Database
from footplate_api.errors import Invalid
from footplate_api.system import repository
from footplate_api.system.cost_metrics import PODS, CostAmounts, CostSnapshot, Group, Month, Pod, Pods
from footplate_api.system.service import MetricsExporter
from footplate_api.usage import repository as usage
from footplate_ledger.intervals import Interval, unix_second

LOOK_SECONDS: Final = 15.0  # and the month is counted as often, where that is cheap
_RESTS: Final = 20  # times as long as it took: counting takes a twentieth of a thread at most
_JOULES: Final = 3_600_000  # of a kilowatt-hour
_GRAMS: Final = 1000
_BY: Final = grouping.parse_grouping(f"{Dimension.NAMESPACE},{Dimension.PROFILE}")


@dataclass
class MonthlyCostTask:
    """Store of this month's costs and the running pods for `scrapes`."""

    database: Database
    costs: CostService
    scrapes: MetricsExporter
    replica: str
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(default=0.0, init=False)  # when the month was begun to be counted
    _due: float = field(default=0.0, init=False)  # and when it is counted again

    async def refresh(self) -> None:
        """Refresh what is due; raises DatabaseUnavailable, CostsBusy, and Invalid for far too many groups."""
        async with self.database.read() as session:
            exports = await repository.is_exporter(session, self.replica)
            found, count = await usage.running_pods(session, PODS) if exports else ((), 0)
        if not exports:
            self.scrapes.spending, self._due = CostSnapshot(), 0.0
            return
        pods = Pods([Pod(*row) for row in found], count - len(found))
        self.scrapes.spending = replace(self.scrapes.spending, pods=pods)
        if self.clock() >= self._due:
            try:
                month = await self._month()
            except Invalid:  # found out after seconds of counting
                self._rest()
                raise
            self._rest()
            self.scrapes.spending = self.scrapes.spending.with_month(month)

    def _begin(self) -> None:
        self._begun = self.clock()  # what was waited before, while others counted theirs, took no thread

    def _rest(self) -> None:
        self._due = self.clock() + _RESTS * (self.clock() - self._begun)

    async def _month(self) -> Month:
        now = self.now()
        since = unix_second(steps.month_of(now))
        window = Interval(since, max(unix_second(now), since + 1))
        asked = ResolvedCostQuery(
            window,
            steps.split_window(window, None),
            _BY,
            idle=True,
            share_idle=False,
            former_namespaces=True,
            now=unix_second(now),
        )
        return month_of(window, await self.costs.list_rows(asked, None, None, self._begin))


def month_of(window: Interval, lines: Iterable[CostLine]) -> Month:
    """Return the ledger's month of `window`, grouped by namespace and profile, in base units."""
    held: dict[Group, CostAmounts] = {}
    idle: dict[str, CostAmounts] = {}
    for line in lines:
        namespace, profile = line.group
        amounts = CostAmounts(
            _times(line.dollars, 1),
            _times(line.kilowatt_hours, _JOULES),
            _times(line.carbon_kilograms, _GRAMS),
        )
        if line.kind is CostKind.USAGE:
            held[namespace or "", profile or ""] = amounts
        elif line.kind is CostKind.IDLE:
            idle[profile or ""] = amounts
    return Month(window.start, window.end, held, idle)


def _times(amount: Decimal | None, factor: int) -> float | None:
    return None if amount is None else float(amount * factor)
