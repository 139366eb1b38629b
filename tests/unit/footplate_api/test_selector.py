"""Label selectors mean what they mean to kubectl; test_kubernetes.py asks an API server about messages."""

from __future__ import annotations

import pytest

from footplate_api.labels.selector import MOST, Operator, Requirement, parse_selector
from footplate_api.runs.list_limits import count_label_lookups

IN, NOT_IN, EXISTS, ABSENT = Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("a=b", [Requirement("a", IN, ("b",))], id="equals"),
        pytest.param("a == b", [Requirement("a", IN, ("b",))], id="double-equals"),
        pytest.param("a!=b", [Requirement("a", NOT_IN, ("b",))], id="not-equals"),
        pytest.param("a in (c, b,c)", [Requirement("a", IN, ("b", "c"))], id="in"),
        pytest.param("a notin(b)", [Requirement("a", NOT_IN, ("b",))], id="not-in"),
        pytest.param("a", [Requirement("a", EXISTS)], id="exists"),
        pytest.param("! a", [Requirement("a", ABSENT)], id="absent"),
        pytest.param("a=", [Requirement("a", IN, ("",))], id="empty-value"),
        pytest.param("a in ()", [Requirement("a", IN, ("",))], id="no-values"),
        pytest.param("a in (,)", [Requirement("a", IN, ("",))], id="empty-values"),
        pytest.param("a in (b,)", [Requirement("a", IN, ("", "b"))], id="trailing-comma"),
        pytest.param("a in (,,b)", [Requirement("a", IN, ("", "b"))], id="two-commas"),
        pytest.param("in in (in, notin)", [Requirement("in", IN, ("in", "notin"))], id="words-as-names"),
        pytest.param("notin=in", [Requirement("notin", IN, ("in",))], id="words-as-values"),
        pytest.param(
            "x.io/a\t=b ,!c, d!=e",
            [Requirement("x.io/a", IN, ("b",)), Requirement("c", ABSENT), Requirement("d", NOT_IN, ("e",))],
            id="several",
        ),
    ],
)
def test_what_a_selector_asks(text: str, requirements: list[Requirement]) -> None:
    assert list(parse_selector(text)) == requirements


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(",", "found ',', expected: !, identifier, or 'end of string'", id="comma"),
        pytest.param("a,", "found '', expected: identifier after ','", id="nothing-after-comma"),
        pytest.param(
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            id="no-operator",
        ),
        pytest.param("a in b", "unable to parse requirement: found 'b' expected: '('", id="no-parenthesis"),
        pytest.param(
            "a in (b", "unable to parse requirement: found '', expected: ',' or ')'", id="not-closed"
        ),
        pytest.param("a=b c", "found 'c', expected: ',' or 'end of string'", id="two-values"),
        pytest.param("!", "unable to parse requirement: found '', expected: identifier", id="no-key"),
        pytest.param("!a=b", "found '=', expected: ',' or 'end of string'", id="not-and-equals"),
        pytest.param(
            "a>5",
            "unable to parse requirement: found '>', expected: in, notin, =, ==, !=: no order is supported",
            id="order",
        ),
    ],
)
def test_what_is_said_of_a_mistake(text: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_selector(text)
    assert str(refused.value) == said


def test_a_selector_has_an_end() -> None:
    parse_selector(",".join(["a"] * MOST))
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        parse_selector(",".join(["a"] * (MOST + 1)))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a=b", 0),
        ("a in (b,c)", 0),
        ("a", 1),
        ("a!=b", 1),
        ("!a,b=c", 1),
        ("a,b=c", 2),
        ("a!=b,c notin (d)", 2),
    ],
)
def test_a_list_looks_at_the_labels_that_no_index_finds(text: str, labels: int) -> None:
    assert count_label_lookups(parse_selector(text)) == labels
