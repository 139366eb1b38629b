"""The page of the chart lists its values so that each can be given with --set."""

from __future__ import annotations

import pytest
from tools.chart_values.comments import read
from tools.chart_values.schema import schema
from tools.chart_values.table import BEGIN, END, placed, tables

TEXT = """\
# How many | at once, of <release>.
# @schema minimum: 1, maximum: 100000
rate: 1000
# @schema type: number, exclusiveMinimum: 0, maximum: 5
share: 1 # of *all*
# Such as
#   b: <c>
# @schema items: {type: string, enum: [a, b]}
list: [a]
# @schema enum: [auto, true]
when: auto # it is
# @schema items: {type: [object, string]}
more: [] # of them

# Where it listens.
server:
  # The inner part.
  inner:
    port: 1 # its port
  image: {repository: a/b, tag: ""}
  podDisruptionBudget: {maxUnavailable: 1}
  # By name.
  # @schema additionalProperties: object
  kinds:
    # The first.
    one: {enabled: true, text: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}
    two: {}
"""
VALUES = read(TEXT)
LINES = tables(VALUES, schema(VALUES, {}, [])).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            r"| `rate` | integer, 1 to 100,000 | `1000` | How many \| at once, of &lt;release>. |",
            id="bounds",
        ),
        pytest.param(r"| `share` | number, above 0, at most 5 | `1` | of \*all\* |", id="above"),
        pytest.param('| `list` | list of strings | `["a"]` | Such as `b: <c>` |', id="list-and-example"),
        pytest.param('| `when` | `"auto"`, `true` | `"auto"` | it is |', id="enum"),
        pytest.param("| `more` | list | `[]` | of them |", id="list-of-several-types"),
        pytest.param("### server", id="section"),
        pytest.param("Where it listens.", id="what-a-section-is"),
        pytest.param("| `server.inner` | map |  | The inner part. |", id="section-within"),
        pytest.param("| `server.inner.port` | integer | `1` | its port |", id="value-within"),
        pytest.param(
            '| `server.image.tag` | string | `""` | empty: the chart\'s appVersion |',
            id="meaning-of-the-type",
        ),
        pytest.param(
            "| `server.podDisruptionBudget.maxUnavailable` | integer, from 1, or string | `1` |"
            " most replicas evicted at once: a number or a percentage |",
            id="either",
        ),
        pytest.param("| `server.kinds` | map | as in values.yaml | By name. |", id="large-default"),
        pytest.param("| `server.kinds.one` | map | as in values.yaml | The first. |", id="of-own-keys"),
    ],
)
def test_a_line_says_name_type_default_and_meaning(line: str) -> None:
    assert line in LINES


def test_own_keys_without_a_comment_have_no_line() -> None:
    assert not [line for line in LINES if "kinds.two" in line or "kinds.one.enabled" in line]


def test_no_section_stands_among_the_values_before_it() -> None:
    assert LINES.index("### server") == 8
    assert not [line for line in LINES[:8] if "server" in line]


def test_only_what_is_between_the_markers_changes() -> None:
    page = f"# Chart\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    new = placed(page, "new\n")
    assert new == f"# Chart\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    assert placed(new, "new\n") == new


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("# Chart\n", id="none"),
        pytest.param(f"{END}\n{BEGIN}\n", id="the-wrong-way-round"),
        pytest.param(f"{BEGIN}\n{BEGIN}\n{END}\n", id="twice"),
    ],
)
def test_a_page_without_a_place_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="the page has not each of the lines"):
        placed(page, "new\n")
