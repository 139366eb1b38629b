"""Exact sums of very many fractions; pure.

A sum has numerators by denominator, so that it adds whole numbers alone: fractions of a million pods, each
of another length, have no common denominator that anybody would want to write down. It is divided when it
is formatted, and then rounded right, half to even.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from footplate_ledger.units import rounded

_FEW: Final = 8  # denominators: so many are brought to a common one at once
_BITS: Final = 256  # of a quotient that is only near to the true one


class ExactSum:
    """A sum to which fractions are added.

    Most have one denominator for good, and there are very many: that one has no dictionary.
    """

    __slots__ = ("_denominator", "_numerator", "_others")

    def __init__(self) -> None:
        self._denominator = 1
        self._numerator = 0
        self._others: dict[int, int] | None = None  # numerators of the other denominators

    def add(self, numerator: int, denominator: int = 1) -> None:
        """Add a fraction; `denominator` is above zero."""
        if denominator == self._denominator:
            self._numerator += numerator
        elif self._others is not None:
            self._others[denominator] = self._others.get(denominator, 0) + numerator
        elif self._numerator:
            self._others = {denominator: numerator}
        else:
            self._denominator, self._numerator = denominator, numerator

    def add_sum(self, other: ExactSum, factor: Fraction = Fraction(1)) -> None:
        """Add another sum, times `factor`."""
        for denominator, numerator in other._parts():
            if numerator:
                self.add(numerator * factor.numerator, denominator * factor.denominator)

    def __bool__(self) -> bool:
        """Return whether the sum is not zero; no sum here has parts below zero beside others above."""
        return any(numerator for _, numerator in self._parts())

    def __iter__(self) -> Iterator[Fraction]:
        return (Fraction(numerator, denominator) for denominator, numerator in self._parts())

    def _parts(self) -> Sequence[tuple[int, int]]:
        """Return denominators, each once, and numerators."""
        return [(self._denominator, self._numerator), *(self._others or {}).items()]

    @property
    def exact(self) -> Fraction:
        """The sum as one fraction; slow where there are thousands of denominators."""
        parts = list(self)
        while len(parts) > 1:  # in pairs: of the long ones there are few
            parts = [sum(parts[at : at + 2], Fraction(0)) for at in range(0, len(parts), 2)]
        return parts[0]

    def to_decimal(self, unit: int | Fraction, digits: int) -> Decimal:
        """Convert to a decimal in units of `unit` with `digits` decimal places; rounded once, half to even.

        >>> third = ExactSum()
        >>> third.add(1, 3), third.add(1, 6)
        (None, None)
        >>> third.to_decimal(1, 1), third.to_decimal(Fraction(1, 1000), 0)
        (Decimal('0.5'), Decimal('500'))
        """
        if len(self._others or ()) >= _FEW:
            near = self._near(Fraction(10**digits) / unit)
            if near is not None:
                return rounded(Fraction(near, 10**digits), digits)
        return rounded(self.exact / unit, digits)

    def _near(self, factor: Fraction) -> int | None:
        """Return the sum times `factor`, rounded; None if that needs a common denominator."""
        least = 0
        parts = self._parts()
        for denominator, numerator in parts:
            whole = (numerator * factor.numerator) << _BITS
            least += whole // (denominator * factor.denominator)
        most = least + len(parts)  # each quotient is less than one too small
        low, high = (round(Fraction(edge, 1 << _BITS)) for edge in (least, most))
        return low if low == high else None  # all between them is rounded alike
