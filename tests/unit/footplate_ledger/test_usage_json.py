"""Usage as JSON: exact, whatever a later release adds, and refused where no database stores it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction

import pytest

from footplate_ledger import usage_json
from footplate_ledger.usage import EndTime, MeasuredEnergy, Owner, PowerProfile, Sku
from tests.support.usage_worlds import RUN, node, pod, world


@pytest.mark.parametrize("seed", range(20))
def test_usage_is_read_as_it_was_written(seed: int) -> None:
    made = world(random.Random(seed))
    assert [usage_json.decode_pod(usage_json.encode(used)) for used in made.pods] == made.pods
    assert [usage_json.decode_node(usage_json.encode(used)) for used in made.nodes] == made.nodes


def test_no_number_is_rounded() -> None:
    used = pod(
        cpu=Fraction(1, 3),
        site=PowerProfile(power_usage_effectiveness=Fraction(10**30, 7), grams_per_kilowatt_hour=Fraction(0)),
    )
    assert usage_json.decode_pod(usage_json.encode(used)) == used


def test_pods_of_one_place_share_it() -> None:
    """Sums look up what a place emits by its identity."""
    first, second = (usage_json.decode_pod(usage_json.encode(pod(uid))) for uid in "ab")
    assert first.site is second.site and first.sku is second.sku


def test_a_field_of_a_later_release_is_ignored_and_a_missing_one_has_its_default() -> None:
    plain = json.loads(usage_json.encode(pod()))
    del plain["measured"], plain["site"]["carbon_zone"]
    plain["later"], plain["sku"]["later"] = {"much": [1]}, "more"
    read = usage_json.decode_pod(json.dumps(plain))
    assert read == pod(site=replace(pod().site, carbon_zone=""))


@pytest.mark.parametrize(
    "used",
    [
        pytest.param(pod(name="\0"), id="in-a-text"),
        pytest.param(pod(owner=Owner("TrainingRun", "research", "\ud800", "uid")), id="half-a-pair"),
        pytest.param(node(sku=Sku("\0")), id="of-a-node"),
    ],
)
def test_a_text_that_no_database_stores_is_refused(used: object) -> None:
    with pytest.raises(ValueError):
        usage_json.encode(used)


def test_the_fields_are_those_of_the_record() -> None:
    plain = json.loads(usage_json.encode(pod(end=EndTime(0, 5), measured=MeasuredEnergy())))
    assert plain["owner"] == {"kind": RUN.kind, "namespace": RUN.namespace, "name": RUN.name, "uid": RUN.uid}
    assert (plain["role"], plain["end"], plain["cpu"]) == ("worker", {"known": 0, "until": 5}, 4)
    assert plain["site"]["power_usage_effectiveness"] == "6/5"
    assert usage_json.encode(pod(name="\\u0000"))  # the six characters, not the one that they stand for
