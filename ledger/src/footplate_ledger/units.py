"""Amounts with units, exact; a product that has no meaning is refused.

| factors | product |
|---|---|
| Rate x Seconds | Money |
| Power x Seconds | Energy |
| Energy x Intensity | Carbon |
| any amount x a number or a fraction | the same kind of amount |

Amounts of one kind are added and compared with each other, and with nothing else. Each has one base
unit, in which it is a fraction: sums of parts are the whole, in any order. They are divided and rounded,
half to even, only when they are formatted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import ClassVar, Final, Self, TypeVar, overload

HOUR: Final = 3600  # seconds
_DIGITS: Final = 60  # of a decimal on its way to be rounded


@dataclass(frozen=True, slots=True, order=True)
class Amount:
    """Base of all amounts: `exact` in the base unit of its kind."""

    exact: Fraction = Fraction(0)

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self.exact + other.exact)

    def __sub__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self.exact - other.exact)

    def __neg__(self) -> Self:
        return type(self)(-self.exact)

    def _times(self, factor: object) -> Self:
        """Scale by a number; anything else has no meaning. A boolean or a float is no exact number."""
        if type(factor) is int or type(factor) is Fraction:
            return type(self)(self.exact * factor)
        refused: Self = NotImplemented  # what Python asks an operator to return
        return refused

    def __rmul__(self, factor: int | Fraction) -> Self:
        return self._times(factor)


@dataclass(frozen=True, slots=True, order=True)
class Seconds(Amount):
    """A length of time, in seconds."""

    def __mul__(self, factor: int | Fraction) -> Seconds:
        return self._times(factor)


@dataclass(frozen=True, slots=True, order=True)
class Money(Amount):
    """Amount of money, in nano-dollars."""

    NANO: ClassVar[int] = 10**9

    @classmethod
    def dollars(cls, text: str | int) -> Money:
        """Convert from a decimal number of dollars, exactly.

        >>> Money.dollars("0.1") + Money.dollars("0.2") == Money.dollars("0.3")
        True
        """
        return cls(Fraction(text) * cls.NANO)

    def __mul__(self, factor: int | Fraction) -> Money:
        return self._times(factor)

    def to_decimal(self, digits: int = 2) -> Decimal:
        """Convert to dollars, rounded half to even.

        >>> Money.dollars("0.125").to_decimal(), Money.dollars("0.135").to_decimal()
        (Decimal('0.12'), Decimal('0.14'))
        """
        return rounded(self.exact / self.NANO, digits)


@dataclass(frozen=True, slots=True, order=True)
class HourlyRate(Amount):
    """Price in nano-dollars an hour."""

    @classmethod
    def dollars_per_hour(cls, text: str | int) -> HourlyRate:
        """Convert from a decimal number of dollars an hour; ValueError for more than nine places."""
        nano = Fraction(text) * Money.NANO
        if nano.denominator != 1:
            raise ValueError(f"a price has at most nine decimal places, not {text}")
        return cls(nano)

    @overload
    def __mul__(self, factor: Seconds) -> Money: ...
    @overload
    def __mul__(self, factor: int | Fraction) -> HourlyRate: ...
    def __mul__(self, factor: Seconds | int | Fraction) -> Money | HourlyRate:
        return Money(self.exact * factor.exact / HOUR) if type(factor) is Seconds else self._times(factor)


@dataclass(frozen=True, slots=True, order=True)
class Energy(Amount):
    """Energy in millijoules."""

    PER_KILOWATT_HOUR: ClassVar[int] = 3_600_000 * 1000

    @classmethod
    def kilowatt_hours(cls, text: str | int | Fraction) -> Energy:
        """Convert from a decimal number of kilowatt-hours, exactly."""
        return cls(Fraction(text) * cls.PER_KILOWATT_HOUR)

    @classmethod
    def joules(cls, text: str | int | Fraction) -> Energy:
        """Convert from a decimal number of joules, exactly."""
        return cls(Fraction(text) * 1000)

    @overload
    def __mul__(self, factor: Intensity) -> Carbon: ...
    @overload
    def __mul__(self, factor: int | Fraction) -> Energy: ...
    def __mul__(self, factor: Intensity | int | Fraction) -> Carbon | Energy:
        if type(factor) is Intensity:
            return Carbon(self.exact * factor.exact / self.PER_KILOWATT_HOUR)
        return self._times(factor)

    def to_decimal(self, digits: int = 3) -> Decimal:
        """Convert to kilowatt-hours, rounded half to even."""
        return rounded(self.exact / self.PER_KILOWATT_HOUR, digits)


@dataclass(frozen=True, slots=True, order=True)
class Power(Amount):
    """Power in watts."""

    @overload
    def __mul__(self, factor: Seconds) -> Energy: ...
    @overload
    def __mul__(self, factor: int | Fraction) -> Power: ...
    def __mul__(self, factor: Seconds | int | Fraction) -> Energy | Power:
        return Energy(self.exact * factor.exact * 1000) if type(factor) is Seconds else self._times(factor)


@dataclass(frozen=True, slots=True, order=True)
class Intensity(Amount):
    """Carbon intensity in grams of CO2 equivalent a kilowatt-hour."""

    def __mul__(self, factor: int | Fraction) -> Intensity:
        return self._times(factor)


@dataclass(frozen=True, slots=True, order=True)
class Carbon(Amount):
    """Emissions in grams of CO2 equivalent."""

    def __mul__(self, factor: int | Fraction) -> Carbon:
        return self._times(factor)

    def to_decimal(self, digits: int = 3) -> Decimal:
        """Convert to kilograms, rounded half to even."""
        return rounded(self.exact / 1000, digits)


Kind = TypeVar("Kind", bound=Amount)


def total(kind: type[Kind], amounts: Iterable[Kind]) -> Kind:
    """Return the sum of `amounts`, `kind()` where there are none.

    >>> total(Money, [Money.dollars(1), Money.dollars("0.5")]).to_decimal()
    Decimal('1.50')
    """
    found = kind()
    for amount in amounts:
        found = found + amount
    return found


def rounded(exact: Fraction, digits: int) -> Decimal:
    """Round `exact` to so many decimal places, half to even.

    A decimal quotient could itself be rounded, onto a half that is none: the integer quotient cannot.

    >>> rounded(Fraction(5, 2), 0), rounded(Fraction(7, 2), 0), rounded(Fraction(2, 3), 2)
    (Decimal('2'), Decimal('4'), Decimal('0.67'))
    """
    with localcontext() as context:
        context.prec = _DIGITS
        whole = Decimal(round(exact * 10**digits))  # of a fraction: half to even, exactly
        return whole.scaleb(-digits).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
