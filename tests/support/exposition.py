"""The rules of names and labels of our metrics (docs/observability.md, "Names"), and those it tells of.

A program's exposition is read as Prometheus reads it; what breaks a rule is told in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

PREFIX: Final = "footplate_"
# What prometheus_client's own collectors say of a process, under names that everybody knows.
USUAL: Final = ("process_", "python_")
UNITS: Final = ("seconds", "bytes", "joules", "grams", "dollars", "ratio", "info")
# What a metric without a unit of measurement counts, or says yes and no to, last in its name.
_WORDS: Final = """
runs requests rows points deliveries connections events failures reconcile restarts tokens step loss depth
objects_skipped records_taken dropped skipped per_second norm learning_rate full over_quota status
in_flight
"""
COUNTED: Final = tuple(_WORDS.split())
NOT_BASE: Final = re.compile(r"milli|micro|minutes|hours|_ms(_|$)|kib|mib|gib|kilo|mega|percent|_age(_|$)")
FEW: Final = 10  # values of a label that need no stated bound
PROMETHEUS: Final = ("job", "instance")  # what a scrape adds is nobody's to overwrite


def families(text: str) -> list[Metric]:
    """The metrics of an exposition, those of the process itself left out."""
    return [family for family in text_string_to_metric_families(text) if not family.name.startswith(USUAL)]


def faults(text: str, bounds: Mapping[str, int]) -> Iterator[str]:
    """What is wrong with the exposition `text`; `bounds`: how many values a label may have, by its name."""
    for family in families(text):
        yield from _of_name(family)
        yield from _of_labels(family, bounds)
    yield from _twice(text)


def _of_name(family: Metric) -> Iterator[str]:
    name = family.name
    if not name.startswith(PREFIX):
        yield f"{name}: should begin with {PREFIX}"
    if NOT_BASE.search(name):
        yield f"{name}: is not in a base unit"
    if "timestamp" in name and not name.endswith("_timestamp_seconds"):
        yield f"{name}: a point in time should end in _timestamp_seconds"
    if family.type == "counter" and not all(sample.name.endswith("_total") for sample in family.samples):
        yield f"{name}: a counter should end in _total"
    if family.type != "counter" and name.endswith("_total"):
        yield f"{name}: ends in _total, and is a {family.type}"
    if not name.endswith((*UNITS, *COUNTED)):
        yield f"{name}: should end in what it counts, or in one of {', '.join(UNITS)}"
    if name.endswith("_info") and {sample.value for sample in family.samples} - {1.0}:
        yield f"{name}: should be 1"
    if not family.documentation:
        yield f"{name}: says nothing of itself"


def _of_labels(family: Metric, bounds: Mapping[str, int]) -> Iterator[str]:
    values: dict[str, set[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            values.setdefault(label, set()).add(value)
    for label, found in values.items():
        if label in PROMETHEUS:
            yield f"{family.name}: the label {label} is Prometheus'"
        if re.search(rf"(^|_){label}(_|$)", family.name.removeprefix(PREFIX)):
            yield f"{family.name}: has its label {label} in its name"
        most = bounds.get(label, FEW)
        if label != "le" and len(found) > most:
            yield f"{family.name}: the label {label} has {len(found)} values, {most} are allowed"


def _twice(text: str) -> Iterator[str]:
    """Lines of one series, which a scrape takes once."""
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")]
    seen: set[str] = set()
    for name in series:
        if name in seen:
            yield f"{name}: is there twice"
        seen.add(name)


def missing(text: str, names: Iterable[str]) -> set[str]:
    """Those of `names` that have no sample there."""
    there = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    return set(names) - there


# -- metrics that the documentation has ------------------------------------------------------------


PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
EXPOSED: Final = ("Prometheus", "The operator")  # sections whose tables tell what the programs expose
_ROW: Final = re.compile(r"^\| (`[^|]+) \|", re.MULTILINE)
_NAME: Final = re.compile(r"`((?:\w+:)?footplate_[\w:]+)`")


def documented(*sections: str) -> set[str]:
    """Names in the first column of the tables of `sections`, by their headings; else of what is exposed."""
    found: set[str] = set()
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE):
        if section.partition("\n")[0] in (sections or EXPOSED):
            found |= {name for row in _ROW.findall(section) for name in _NAME.findall(row)}
    return found
