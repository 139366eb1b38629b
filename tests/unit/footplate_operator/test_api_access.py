"""Coordinators find the API where it is now, and who vouches for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.names import Env, api_ca_name
from footplate_operator.api_access import ApiAccess
from footplate_operator.errors import ApiUnreachable
from footplate_operator.runtime.kinds import CONFIG_MAP, EVENT, POD, Json
from tests.support.certificates import Issuer
from tests.support.fake_cluster import travelled
from tests.support.operator_fakes import NAME, run_manifest
from tests.support.operator_world import World, running

CA = api_ca_name(NAME)
LONG = {"training": run_manifest()["spec"]["training"] | {"steps": 100_000}}


def told(pod: Json) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in pod["spec"]["containers"][0]["env"]}


def workers(world: World) -> dict[str, str]:
    """Uids of the workers."""
    pods = [pod for pod in world.cluster.all(POD) if "-w" in pod["metadata"]["name"]]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def vouching(world: World) -> str:
    return str(world.cluster.objects[CONFIG_MAP, CA]["data"]["ca.crt"])


async def moved(world: World, bundle: list[str]) -> None:
    """The operator of a release whose API serves with TLS takes over; `bundle` says who vouches."""
    world.api = ApiAccess("https://api:8443", bundle=lambda: bundle[-1])
    world.start_operator()
    await world.live(30, until=lambda: (POD, f"{NAME}-c2") in world.cluster.objects)
    await world.live(30, until=lambda: (POD, f"{NAME}-c1") not in world.cluster.objects)


async def test_a_coordinator_of_an_earlier_release_has_a_successor_and_no_worker_notices() -> None:
    world = await running(**LONG)
    before = workers(world)
    assert told(world.cluster.objects[POD, f"{NAME}-c1"])[Env.API_URL] == "http://api"
    await moved(world, ["who vouches"])
    successor = told(world.cluster.objects[POD, f"{NAME}-c2"])
    assert successor[Env.API_URL] == "https://api:8443"
    assert successor[Env.API_CA_FILE] == "/etc/footplate/api/ca.crt"
    await world.live(30)
    assert f"{NAME}-c3" not in world.cluster.names(POD)
    assert (workers(world), world.phase, world.status["restarts"]) == (before, "Running", 0)


async def test_a_coordinator_stays_while_the_operator_knows_no_api() -> None:
    world = await running(**LONG)
    world.api = ApiAccess()
    world.start_operator()
    await world.live(30)
    assert f"{NAME}-c1" in world.cluster.names(POD)


async def test_who_vouches_is_brought_up_to_date_while_the_run_trains() -> None:
    world, bundle = await running(**LONG), ["the first"]
    await moved(world, bundle)
    assert vouching(world) == "the first"
    pods = world.cluster.names(POD)
    bundle.append("the first and the second")
    await world.live(400, until=lambda: vouching(world) == "the first and the second")
    edited = travelled(world.cluster.objects[CONFIG_MAP, CA])
    world.cluster.put(edited | {"data": {"ca.crt": "mine"}})
    await world.live(5, until=lambda: vouching(world) == "the first and the second")
    world.cluster.end(CONFIG_MAP, CA)
    await world.live(5, until=lambda: (CONFIG_MAP, CA) in world.cluster.objects)
    assert world.cluster.names(POD) == pods
    assert not [event for event in world.cluster.all(EVENT) if event["reason"] == "ChildEdited"]
    assert len(world.cluster.names(CONFIG_MAP)) == 2, "the other one is the RunConfig"


async def test_a_run_starts_though_nobody_is_known_who_vouches() -> None:
    world, bundle = World(), [""]
    world.api = ApiAccess("https://api:8443", bundle=lambda: bundle[-1])
    world.start_operator()
    world.submit(**LONG)
    await world.live(30, until=lambda: world.phase == "Running")
    assert CA not in world.cluster.names(CONFIG_MAP)
    bundle.append("known now")
    await world.live(400, until=lambda: CA in world.cluster.names(CONFIG_MAP))
    assert world.cluster.names(POD) == [f"{NAME}-c1", f"{NAME}-w0-0", f"{NAME}-w1-0"]


# -- the operator's own way ----------------------------------------------------------------


def _with(tmp_path: Path, **given: Any) -> ApiAccess:
    token = tmp_path / "token"
    token.write_text("the first\n")
    return ApiAccess(token_file=token, **given)


def test_a_token_is_read_anew_and_goes_only_to_an_api_that_proves_who_it_is(tmp_path: Path) -> None:
    access = _with(tmp_path, url="https://api")
    assert access.headers() == {"Authorization": "Bearer the first"}
    (tmp_path / "token").write_text("the second")
    assert access.headers() == {"Authorization": "Bearer the second"}
    (tmp_path / "token").unlink()
    assert access.headers() == {}
    assert _with(tmp_path, url="http://api").headers() == {}


def test_a_renewed_bundle_is_trusted_from_then_on() -> None:
    bundles = [Issuer().bundle]
    access = ApiAccess("https://api", bundle=lambda: bundles[-1])
    first = access.context()
    assert access.context() is first
    bundles.append(bundles[-1] + Issuer().bundle)
    assert len(access.context().get_ca_certs()) == 2


def test_nobody_is_asked_while_it_is_not_known_who_vouches() -> None:
    with pytest.raises(ApiUnreachable, match="its CA certificate is not known yet"):
        ApiAccess("https://api", bundle=lambda: "").context()
    assert ApiAccess("http://api", bundle=lambda: "").context() is True
