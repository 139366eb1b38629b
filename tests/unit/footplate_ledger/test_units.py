"""Amounts: exact sums, the products that mean something, and every one that does not."""

from __future__ import annotations

import itertools
import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import strategies as st

from footplate_ledger.units import (
    Amount,
    Carbon,
    Energy,
    HourlyRate,
    Intensity,
    Money,
    Power,
    Seconds,
    rounded,
    total,
)
from tests.support.properties import given

KINDS: list[type[Amount]] = [Seconds, Money, HourlyRate, Energy, Power, Intensity, Carbon]
PRODUCTS = {(HourlyRate, Seconds): Money, (Power, Seconds): Energy, (Energy, Intensity): Carbon}
NUMBERS = [2, Fraction(1, 3)]
ONE = Fraction(1)


def test_the_products_that_mean_something() -> None:
    assert HourlyRate.dollars_per_hour("98.32") * Seconds(Fraction(1800)) == Money.dollars("49.16")
    assert Power(Fraction(330)) * Seconds(Fraction(3600)) == Energy.kilowatt_hours("0.33")
    assert Energy.kilowatt_hours(2) * Intensity(Fraction(475)) == Carbon(Fraction(950))
    assert Energy.joules(1) == Energy(Fraction(1000))


@pytest.mark.parametrize(
    "pair",
    [pair for pair in itertools.product(KINDS, repeat=2) if pair not in PRODUCTS],
    ids=lambda pair: "-".join(kind.__name__ for kind in pair),
)
def test_every_other_product_is_refused(pair: tuple[type[Amount], type[Amount]]) -> None:
    left, right = pair
    with pytest.raises(TypeError):
        operator.mul(left(ONE), right(ONE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [1.5, True, Decimal(2), "2", None], ids=repr)
def test_no_amount_is_scaled_by_what_is_not_exact(kind: type[Amount], wrong: Any) -> None:
    for factors in ((kind(ONE), wrong), (wrong, kind(ONE))):
        with pytest.raises(TypeError):
            operator.mul(*factors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", NUMBERS)
def test_any_amount_is_scaled_by_a_number(kind: type[Amount], number: Any) -> None:
    assert kind(ONE) * number == number * kind(ONE) == kind(ONE * number)


@pytest.mark.parametrize(
    "pair", list(itertools.permutations(KINDS, 2)), ids=lambda pair: "-".join(kind.__name__ for kind in pair)
)
def test_different_kinds_are_neither_added_nor_compared(pair: tuple[type[Amount], type[Amount]]) -> None:
    left, right = pair[0](ONE), pair[1](ONE)
    for operation in (operator.add, operator.sub, operator.lt):
        with pytest.raises(TypeError):
            operation(left, right)
    assert left != right


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_is_no_amount(kind: type[Amount]) -> None:
    with pytest.raises(TypeError):
        operator.add(kind(ONE), 1)


@given(st.lists(st.fractions(), max_size=20), st.randoms())
def test_sums_do_not_depend_on_their_order(parts: list[Fraction], chance: Any) -> None:
    amounts = [Money(part) for part in parts]
    before = total(Money, amounts)
    chance.shuffle(amounts)
    assert total(Money, amounts) == before == Money(sum(parts, Fraction(0)))


@given(st.fractions(max_denominator=10**6), st.integers(0, 9))
def test_what_is_shown_is_as_near_as_its_digits_allow(exact: Fraction, digits: int) -> None:
    shown = rounded(exact, digits)
    assert -shown.as_tuple().exponent == digits
    off = abs(Fraction(shown) - exact)
    assert off <= Fraction(1, 2 * 10**digits)
    if off == Fraction(1, 2 * 10**digits):
        assert int(shown.scaleb(digits)) % 2 == 0


def test_a_price_is_whole_nano_dollars() -> None:
    assert HourlyRate.dollars_per_hour("0.000000001") == HourlyRate(ONE)
    with pytest.raises(ValueError, match="nine decimal places"):
        HourlyRate.dollars_per_hour("0.0000000001")
