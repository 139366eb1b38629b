"""What is said of a value is read from above and behind it; a wrong annotation is refused by its line."""

from __future__ import annotations

import pytest
from tools.chart_values.comments import NAMED, Value, WrongValues, read


def only(text: str) -> Value:
    (value,) = read(text)
    return value


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        pytest.param("# How many.\na: 1\n", "How many.", id="above"),
        pytest.param("a: 1 # how many\n", "how many", id="behind"),
        pytest.param("# Of the\n# pods.\na: 1 # from one\n", "Of the pods. from one", id="both"),
        pytest.param('a: "x # y" # z\n', "z", id="a-text-with-the-sign-of-a-comment"),
        pytest.param("a: # its parts\n  b: 1\n", "its parts", id="behind-the-key-of-a-section"),
        pytest.param("a: {b: 1} # its parts\n", "its parts", id="behind-a-map-in-braces"),
        pytest.param("# Such as\n#   make gen\na: 1\n", "Such as `make gen`", id="an-example"),
        pytest.param("# Of the file.\n\na: 1\n", "", id="parted-by-an-empty-line"),
        pytest.param("  # Of the file.\na: 1\n", "", id="of-another-indentation"),
        pytest.param("# Of it.\n# @schema minimum: 1\na: 1\n", "Of it.", id="without-the-annotation"),
    ],
)
def test_a_meaning_stands_above_or_behind(text: str, meaning: str) -> None:
    assert only(text).meaning == meaning


def test_each_value_knows_its_place_and_default() -> None:
    section = only("# Of all.\na:\n  # Of b.\n  b: [1, {c: 2}]\n  c: {d: x} # of c\n")
    assert section.default == {"b": [1, {"c": 2}], "c": {"d": "x"}}
    b, c = section.children
    assert (b.name, b.line, b.default, b.meaning) == ("a.b", 4, [1, {"c": 2}], "Of b.")
    assert (c.name, c.line, c.meaning) == ("a.c", 5, "of c")
    (d,) = c.children
    assert (d.name, d.default, d.meaning) == ("a.c.d", "x", ""), "a comment is of the whole map in braces"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(["# @schema port"], {NAMED: "port"}, id="a-type"),
        pytest.param(["# @schema minimum: 1, maximum: 9"], {"minimum": 1, "maximum": 9}, id="keywords"),
        pytest.param(
            ["# @schema minItems: 1", "# @schema items: word"],
            {"minItems": 1, "items": "word"},
            id="two-lines",
        ),
        pytest.param(["# @schema enum: [auto, true]"], {"enum": ["auto", True]}, id="a-list"),
        pytest.param(
            [r"# @schema pattern: '^\d{1,2}$'"], {"pattern": r"^\d{1,2}$"}, id="a-pattern-as-it-stands"
        ),
    ],
)
def test_an_annotation_is_a_type_or_keywords(lines: list[str], said: dict[str, object]) -> None:
    assert only("\n".join([*lines, "a: 1"])).said == said


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        pytest.param(
            "a: 1\nb:\n  # @schema minimun: 1\n  c: 1\n",
            "values.yaml:4: b.c: @schema has no keyword minimun; known are additionalProperties, ",
            id="misspelt-keyword",
        ),
        pytest.param(
            "# @shema minimum: 1\na: 1\n",
            "values.yaml:2: a: '@shema minimum: 1' begins with what is not @schema",
            id="misspelt-mark",
        ),
        pytest.param(
            "# @schema minimum: 1\n# @schema minimum: 2\na: 1\n",
            "values.yaml:3: a: @schema says minimum twice",
            id="said-twice",
        ),
        pytest.param(
            "# @schema port\n# @schema minimum: 2\na: 1\n",
            "values.yaml:3: a: @schema port says everything; keywords beside it are lost",
            id="a-type-and-keywords",
        ),
        pytest.param("# @schema\na: 1\n", "values.yaml:2: a: @schema says nothing", id="empty"),
        pytest.param(
            "# @schema minimum\n# @schema maximum: 1\na: 1\n",
            "values.yaml:3: a: @schema minimum says everything",
            id="a-keyword-that-reads-as-a-type",
        ),
        pytest.param(
            "# @schema minimum:, maximum: 1\na: 1\n",
            "values.yaml:2: a: @schema minimum has no content",
            id="a-keyword-without-content",
        ),
        pytest.param(
            "# @schema enum: [a\na: 1\n", "values.yaml:2: a: @schema enum: [a: ", id="what-is-no-yaml"
        ),
        pytest.param(
            "# @schema minimum: 1\n\na: 1\n",
            "values.yaml:1: the file: '# @schema minimum: 1' stands above no value of its indentation",
            id="parted-from-its-value",
        ),
        pytest.param("a: 1\nb: 2\na: 3\n", "values.yaml:3: a: stands there twice", id="a-key-twice"),
        pytest.param("- a\n", "values.yaml:1: the file: is no map", id="no-map"),
    ],
)
def test_what_is_wrong_is_refused_by_line_and_name(text: str, refusal: str) -> None:
    with pytest.raises(WrongValues) as refused:
        read(text)
    assert str(refused.value).startswith(refusal)
