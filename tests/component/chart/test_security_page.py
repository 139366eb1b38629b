"""SECURITY.md says of accounts, roles, policies and Secrets what the chart renders, and nothing beside it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from footplate_api.http.public_paths import OPEN
from footplate_contracts.names import secret_name
from footplate_operator.keys.manifests import SHARDS
from tests.support.chart import one, rendered, rights

PAGE: Final = (Path(__file__).parents[3] / "SECURITY.md").read_text()
ALL: Final = ("--set", "operator.handOver=true")
NARROWED: Final = (*ALL, "--set", "operator.watchNamespaces={research}")
Row = tuple[str, str, str, str]  # account, where, resource, names


def table(first: str) -> list[list[str]]:
    """Cells of the table whose first column has that heading, without their backquotes."""
    lines = PAGE.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.startswith(f"| {first} † |")]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def split(cell: str) -> list[str]:
    """What a cell lists."""
    return [word.strip() for word in cell.split(",")]


def bindings(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each binding of a role to a service account, with the account's name."""
    for body in objects:
        if body["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            for subject in body["subjects"]:
                if subject["kind"] == "ServiceAccount":
                    yield body, subject["name"]


@cache
def granted() -> dict[Row, set[str]]:
    """What the chart gives its accounts; numbered names are one."""
    of_runs = {
        binding["roleRef"]["name"]
        for binding, _ in bindings(rendered(*NARROWED))
        if binding["metadata"].get("namespace") == "research" and binding["roleRef"]["kind"] == "ClusterRole"
    }
    found: dict[Row, set[str]] = {}
    objects = rendered(*ALL)
    for binding, account in bindings(objects):
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        wide = "runs" if name in of_runs else "cluster"
        place = binding["metadata"].get("namespace")
        own = "own" if place == "footplate-system" else str(place)
        where = own if binding["kind"] == "RoleBinding" else wide
        for rule in one(objects, kind, name)["rules"]:
            names = {re.sub(r"-\d+$", "-N", only) for only in rule.get("resourceNames", [])}
            for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
                full = f"{resource}.{group}" if group else resource
                row = (account, where, full, ", ".join(sorted(names)))
                found.setdefault(row, set()).update(rule["verbs"])
    return found


def test_service_accounts_may_what_the_page_says_and_no_more() -> None:
    said: dict[Row, set[str]] = {}
    for account, where, on, names, verbs, reason in table("account"):
        assert reason
        for resource in split(on):
            row = (account, where, resource, ", ".join(sorted(split(names))))
            assert row not in said, f"twice: {row}"
            said[row] = set(split(verbs))
    assert said == granted()


def test_people_may_what_the_page_says_and_no_more() -> None:
    said: dict[str, dict[str, set[str]]] = {}
    for role, on, verbs in table("role"):
        said.setdefault(role, {}).update({resource: set(split(verbs)) for resource in split(on)})
    objects = rendered()
    assert said == {
        role: {
            f"{resource}.{group}": verbs
            for (group, resource), verbs in rights(one(objects, "ClusterRole", role)).items()
        }
        for role in said
    }
    for_people = {
        body["metadata"]["name"]
        for body in objects
        if body["kind"] == "ClusterRole"
        and body["metadata"]["labels"]["app.kubernetes.io/component"] == "users"
        and "resources" in body["rules"][0]
    }
    assert set(said) == for_people


def test_each_policy_is_told() -> None:
    policies = [
        body["metadata"]["name"] for body in rendered() if body["kind"] == "ValidatingAdmissionPolicy"
    ]
    assert sorted(name for name, _ in table("policy")) == sorted(policies)


def test_each_secret_that_an_account_reads_is_told() -> None:
    told = {re.split(r"[ ,]", name)[0] for name, *_ in table("Secret")}
    read = {
        name
        for (_, where, resource, names), verbs in granted().items()
        if resource == "secrets" and where == "own" and verbs - {"create"}
        for name in split(names)
    }
    assert told == read | {secret_name("<run>")}
    assert f"(0 to {SHARDS - 1})" in PAGE


@pytest.mark.parametrize("where", ["runs", "cluster"])
def test_no_secret_is_read_outside_of_the_release_s_namespace_but_by_the_hand_over(where: str) -> None:
    beyond = {
        (account, verb)
        for (account, place, resource, _), verbs in granted().items()
        if resource == "secrets" and place == where
        for verb in verbs
    }
    operator, hand_over = "footplate-operator", "footplate-hand-over"
    allowed = {(operator, "create"), (operator, "delete"), (hand_over, "get")}
    assert beyond == (allowed if where == "runs" else set())


def test_what_answers_without_a_token_is_told() -> None:
    [sentence] = re.findall(r"Without\s+a\s+token\s+it\s+answers\s+(.*?)\s+and\s+nothing", PAGE, re.S)
    assert set(re.findall(r"`(/\w+)`", sentence)) == OPEN
