"""The table of what goes together as a page of the documentation."""

from __future__ import annotations

from collections.abc import Set

from footplate_planning.compatibility import REFUSED, SCHEDULES, SHARDINGS, Feature

PAGE = """<!-- Generated from footplate_planning by `make gen`; edited by nobody. -->

# What goes together

Each pair of features of a run. **+** is run by the layout tests, in processes on CPUs (gloo), and is the
same run as one process; **o** is allowed, and no layout test has just this pair; **–** cannot be asked for
together; a number is a refusal, told before any rank starts, for the reason below. On GPUs (NCCL) the same
code would run, and nothing of it has been run there yet.

{table}

{reasons}

How each works, and which numbers must divide which, is in [parallelism.md](parallelism.md).
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
