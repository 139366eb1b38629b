"""PromQL of dashboards as values that cannot break the linter's rules; pure.

It alone knows how a panel asks: each selector is of the chosen `$job` and `$instance`, and a counter stands
in a rate over `$__rate_interval`. A counter that is asked for itself is refused, as it begins again with its
program: what a panel shows of one is how fast it grows, or a level that a rule has recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tools.monitoring.names import Counter, Foreign, ForeignCounter, Gauge, Histogram, Recorded
from tools.monitoring.promql import RATE_INTERVAL

Level = Gauge | Recorded | Foreign
CHOSEN: Final = 'job=~"$job",instance=~"$instance"'


@dataclass(frozen=True)
class Like:
    """A label's value as a regular expression, which matches the whole of it."""

    pattern: str


@dataclass(frozen=True)
class Unlike(Like):
    """What a label's value must not match."""


Match = str | Like


class _Binds(IntEnum):
    """How strongly an expression holds together, weakest first, as PromQL has it."""

    OR = 1
    AND = 2
    COMPARISON = 3
    SUM = 4
    PRODUCT = 5
    ATOM = 6


@dataclass(frozen=True)
class Expression:
    """A query, or a part of one."""

    text: str
    binds: _Binds = _Binds.ATOM

    def __str__(self) -> str:
        return self.text

    def sum(self, *by: str) -> Expression:
        """Of all series, or of those that agree in the labels `by`."""
        return self._aggregated("sum", by)

    def max(self, *by: str) -> Expression:
        """The same, the greatest."""
        return self._aggregated("max", by)

    def min(self, *by: str) -> Expression:
        """The same, the least."""
        return self._aggregated("min", by)

    def mean(self, *by: str) -> Expression:
        """The same, on average."""
        return self._aggregated("avg", by)

    def count(self, *by: str) -> Expression:
        """How many series there are."""
        return self._aggregated("count", by)

    def top(self, number: int) -> Expression:
        """The `number` greatest of an instant."""
        return Expression(f"topk({number}, {self})")

    def age(self) -> Expression:
        """Seconds since a point in time, which this is."""
        return Expression("time()") - self

    def at_least(self, least: float) -> Expression:
        """What is less is `least`."""
        return Expression(f"clamp_min({self}, {_number(least)})")

    def relabelled(self, label: str, source: str) -> Expression:
        """With the value of the label `source`, where there is one, as `label`."""
        return Expression(f'label_replace({self}, "{label}", "$1", "{source}", "(.+)")')

    def above(self, bound: float) -> Expression:
        """Those series alone that are greater."""
        return self._with(">", Expression(_number(bound)), _Binds.COMPARISON)

    def equal(self, value: float) -> Expression:
        """Those series alone that are just that."""
        return self._with("==", Expression(_number(value)), _Binds.COMPARISON)

    def other_than(self, value: float) -> Expression:
        """Those series alone that are not that."""
        return self._with("!=", Expression(_number(value)), _Binds.COMPARISON)

    def where(self, other: Expression, *on: str) -> Expression:
        """Those series alone that `other` has as well, by the labels `on`."""
        return self._with(f"and on ({', '.join(on)})", other, _Binds.AND)

    def otherwise(self, other: Expression) -> Expression:
        """And those of `other` that this has not."""
        return self._with("or", other, _Binds.OR)

    def joined(self, information: Expression, on: tuple[str, ...], take: tuple[str, ...]) -> Expression:
        """With the labels `take` of an information series, whose value is 1, for each series of that `on`."""
        operator = f"* on ({', '.join(on)}) group_left ({', '.join(take)})"
        return self._with(operator, information, _Binds.PRODUCT)

    def __add__(self, other: Expression) -> Expression:
        return self._with("+", other, _Binds.SUM)

    def __sub__(self, other: Expression) -> Expression:
        return self._with("-", other, _Binds.SUM)

    def __mul__(self, other: Expression | float) -> Expression:
        return self._with("*", _expression(other), _Binds.PRODUCT)

    def __truediv__(self, other: Expression | float) -> Expression:
        return self._with("/", _expression(other), _Binds.PRODUCT)

    def _aggregated(self, how: str, by: tuple[str, ...]) -> Expression:
        return Expression(f"{how} by ({', '.join(by)}) ({self})" if by else f"{how}({self})")

    def _with(self, operator: str, other: Expression, binds: _Binds) -> Expression:
        left = self.text if self.binds >= binds else f"({self})"
        right = other.text if other.binds > binds else f"({other})"
        return Expression(f"{left} {operator} {right}", binds)


def level(name: Level, /, **labels: Match) -> Expression:
    """What something is. Raises ValueError for a counter."""
    return Expression(_selector(_uncounted(name), labels))


def last(name: Level, within: str, /, **labels: Match) -> Expression:
    """What something was when it was seen last, though it may have gone. Raises ValueError for a counter."""
    return Expression(f"last_over_time({_selector(_uncounted(name), labels)}[{within}])")


def rate(name: Counter | ForeignCounter, /, **labels: Match) -> Expression:
    """How fast a counter grows, a second."""
    return Expression(f"rate({_selector(name, labels)}[{RATE_INTERVAL}])")


def increase(name: Counter | ForeignCounter, /, **labels: Match) -> Expression:
    """By how much a counter grew, within a point of the graph."""
    return Expression(f"increase({_selector(name, labels)}[{RATE_INTERVAL}])")


def quantile(share: float, name: Histogram, /, *by: str, **labels: Match) -> Expression:
    """What so great a share of the observations is below."""
    buckets = Expression(f"rate({_selector(f'{name}_bucket', labels)}[{RATE_INTERVAL}])")
    return Expression(f"histogram_quantile({_number(share)}, {buckets.sum('le', *by)})")


def by_the_end_of_the_month(name: Recorded, /, **labels: Match) -> Expression:
    """What counts from the beginning of a month, when it ends, if it goes on as in the last 24 hours."""
    over, left = days_of_month()
    covered = Expression(f"clamp(vector({over}), 1 / 24, 1)")  # days: on the first it is less than one
    return level(name, **labels).sum() + in_a_day(name, **labels) / covered * left


def in_a_day(name: Recorded, /, *by: str, **labels: Match) -> Expression:
    """What was added in 24 hours to what counts from the beginning of a month: on the first, since then."""
    total = level(name, **labels).sum(*by)
    before = Expression(f"{level(name, **labels)} offset 1d").sum(*by)
    added = (total - before).at_least(0)
    return added.where(Expression("day_of_month()").above(1)).otherwise(total)


def days_of_month() -> tuple[Expression, Expression]:
    """How many days of the month are over and left, by the clock of UTC, as numbers with fractions."""
    over = "day_of_month() - 1 + hour() / 24 + minute() / 1440"
    return Expression(f"scalar({over})"), Expression(f"scalar(days_in_month() - ({over}))")


def label_values(name: Level, label: str, /, **labels: Match) -> str:
    """What a variable asks: the values of `label` within the time range."""
    return f"label_values({_selector(name, labels)}, {label})"


def _expression(value: Expression | float) -> Expression:
    return value if isinstance(value, Expression) else Expression(_number(value))


def _number(value: float) -> str:
    return f"{value:g}" if value != int(value) else str(int(value))


def _uncounted(name: Level) -> str:
    if name.endswith("_total"):
        raise ValueError(f"{name} is a counter: ask for its rate or increase, or record its level")
    return name


def _selector(name: str, labels: dict[str, Match]) -> str:
    more = "".join(f",{label}{_matched(value)}" for label, value in labels.items())
    return f"{name}{{{CHOSEN}{more}}}"


def _matched(value: Match) -> str:
    match value:
        case Unlike(pattern):
            return f'!~"{pattern}"'
        case Like(pattern):
            return f'=~"{pattern}"'
        case _:
            return f'="{value}"'
