"""Each alert says what a person needs, asks for what is there, and has its place in the runbook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tools.monitoring import promql
from tools.monitoring.rules import alerts, recording
from tools.monitoring.rules.alert import RUNBOOKS, Alert
from tools.monitoring.rules.alerts import ALERTS

from tests.support.exposition import documented

PARTS: Final = ("**Means**", "**Breaks**", "**Look**", "**Do**", "**Ends**")
# What is not ours: of the programs themselves, and of NVIDIA's exporter.
FOREIGN: Final = frozenset({"process_start_time_seconds", "DCGM_FI_DEV_GPU_UTIL"})
RECORDED: Final = {known.name for group in recording.GROUPS.values() for known in group}
EACH: Final = [pytest.param(alert, id=name) for name, alert in ALERTS.items()]
PAGE: Final = Path(RUNBOOKS).read_text()
SECTIONS: Final = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def labels_in(template: str) -> Iterator[str]:
    yield from re.findall(r"\$labels\.(\w+)", template)


@pytest.mark.parametrize("alert", EACH)
def test_it_says_what_a_person_needs(alert: Alert) -> None:
    rule = alert.rule()
    assert re.fullmatch(r"Footplate[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"[1-9][0-9]*[mh]", rule["for"])
    assert rule["labels"] == {"severity": alert.severity}
    assert 10 < len(rule["annotations"]["summary"]) <= 80 and not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("alert", EACH)
def test_it_asks_for_what_is_there_of_its_own_release(alert: Alert) -> None:
    asked = promql.selectors(alert.rule()["expr"])
    names = {selector.name.removesuffix("_bucket") for selector in asked}
    assert names <= documented() | RECORDED | FOREIGN
    for selector in asked:
        if not selector.name.startswith("DCGM_"):
            jobs = {value for label, how, value in selector.matchers if (label, how) == ("job", "=")}
            assert jobs and jobs <= {"footplate-operator", "footplate-api"}, selector.name


@pytest.mark.parametrize("alert", EACH)
def test_no_change_of_the_replica_has_it_begin_anew(alert: Alert) -> None:
    """By `instance` an alert would end with one series, and wait anew with the next."""
    assert "instance" not in alert.expression
    assert "instance" not in set(labels_in(alert.summary + alert.description))


@pytest.mark.parametrize("alert", EACH)
def test_the_runbook_has_its_section(alert: Alert) -> None:
    page, _, anchor = alert.rule()["annotations"]["runbook_url"].partition("#")
    assert (page, anchor) == (RUNBOOKS, alert.name.lower())
    section = SECTIONS[alert.name]
    assert section.startswith(f"\n`{alert.severity}`, for {alert.lasting}.\n")
    assert [part for part in PARTS if f"\n{part} " not in section] == []


def test_the_runbook_has_no_other_section() -> None:
    assert sorted(SECTIONS) == sorted(ALERTS)
    assert len(ALERTS) == sum(len(group) for group in alerts.GROUPS.values())


def test_links_of_the_runbook_lead_somewhere() -> None:
    own = {name.lower() for name in SECTIONS}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= own
    for page, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", PAGE):
        headings = re.findall(r"^## (.*)$", (Path(RUNBOOKS).parent / page).read_text(), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{page}#{anchor}"


def test_the_runbook_names_metrics_that_are_there() -> None:
    named = set(re.findall(r"\b(footplate_\w+?)(?:_bucket)?\b(?![\w:])", PAGE))
    assert named - documented() - RECORDED == set()
