"""The table of what goes together as a page of the documentation."""

from __future__ import annotations

from collections.abc import Set

from footplate_planning.compatibility import REFUSED, SCHEDULES, SHARDINGS, Feature

PAGE = """<!-- Generated from footplate_planning by `make gen`; edited by nobody. -->

# Compatible features

The table has each pair of features of a run. On GPUs (NCCL) the same code would run, but none of it
has been run there yet.

| cell | meaning |
|:-:|---|
| + | the layout tests run this pair in processes on CPUs (gloo), and it is the same run as one process |
| o | allowed, but no layout test has exactly this pair |
| – | alternatives of one setting, never together |
| number | refused before any rank starts, for the reason below |

{table}

{reasons}

[parallelism.md](parallelism.md) describes the features, and which numbers must divide which.
"""


def page(tested: Set[frozenset[Feature]]) -> str:
    """Markdown; `tested` are the pairs that tests run."""
    reasons = list(dict.fromkeys(REFUSED.values()))
    features = list(Feature)
    lines = [
        "| | " + " | ".join(f"`{feature}`" for feature in features) + " |",
        "|---|" + ":-:|" * len(features),
    ]
    for row, feature in enumerate(features):
        cells = [
            _cell(feature, other, reasons, tested) if column < row else ""
            for column, other in enumerate(features)
        ]
        lines.append(f"| `{feature}` | " + " | ".join(cells) + " |")
    told = "\n".join(
        f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)
    )
    return PAGE.format(table="\n".join(lines), reasons=told)


def _cell(feature: Feature, other: Feature, reasons: list[str], tested: Set[frozenset[Feature]]) -> str:
    pair = frozenset((feature, other))
    if any(feature in choices and other in choices for choices in (SCHEDULES, SHARDINGS)):
        return "–"
    if pair in REFUSED:
        return str(reasons.index(REFUSED[pair]) + 1)
    return "+" if pair in tested else "o"
