"""People with tokens of an OIDC issuer: here a server that changes its keys, and falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cluster.machine.ports import claim_ports
from footplate_api.errors import IssuerUnavailable
from footplate_api.identity.caller import Caller
from footplate_api.identity.oidc.config import OidcConfig
from footplate_api.identity.oidc.discovery import MOST_BYTES, OidcDiscovery
from footplate_api.identity.oidc.issuer import OidcIssuer
from footplate_api.identity.oidc.jwks_cache import PAUSE_SECONDS, REFRESH_SECONDS
from footplate_api.identity.oidc.keys import JsonWebKey
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.test_process import IDLE_MEGABYTES, client, ready, resident, serving
from tests.support.clock import Clock
from tests.support.oidc import CLIENT, HOSTILE, Publisher, publishing, rsa_key, self_signed
from tests.support.review_server import within

# A proxy on loopback that does CONNECT and nothing else, and notes where it was asked to connect to.


@dataclass
class Tunnel:
    """One that runs; `status` is what it answers."""

    url: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)  # host:port, in order

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its CONNECT until either side ends."""
        method, place, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split()
        self.asked.append(place)
        if method != "CONNECT" or self.status != 200:
            writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        host, _, port = place.rpartition(":")
        there_reader, there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        try:
            await asyncio.gather(_copied(reader, there), _copied(there_reader, writer))
        finally:
            there.close()
            writer.close()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass  # whoever ended it has what it wanted
    target.close()


@asynccontextmanager
async def tunnelling() -> AsyncIterator[Tunnel]:
    """A proxy for the block."""
    tunnel = Tunnel()
    server = await asyncio.start_server(tunnel.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    tunnel.url = f"http://{host}:{port}"
    async with server:
        yield tunnel


SILENCE = 0.05  # seconds that are enough for an issuer that does not answer


@dataclass
class World:
    """The API, the issuer that it believes, and the clock by which it asks for keys."""

    api: Api
    publisher: Publisher
    clock: Clock
    timeout: list[float]  # seconds with the issuer

    def token(self, key: int = 0, **more: Any) -> str:
        return self.publisher.keys[key].sign(self.publisher.claims(time.time(), **more))

    async def runs(self, token: str) -> httpx.Response:
        return await self.api.client.get(RUNS, headers={"Authorization": f"Bearer {token}"})


def believed(publisher: Publisher) -> OidcConfig:
    return OidcConfig(
        publisher.url,
        (CLIENT,),
        username_prefix="oidc:",
        groups_claim="groups",
        required=(("tenant", "research"),),
    )


@asynccontextmanager
async def believing(url: str) -> AsyncIterator[World]:
    async with publishing() as publisher:
        oidc, clock, timeout = believed(publisher), Clock(), [60.0]

        async def keys() -> tuple[JsonWebKey, ...]:
            return await OidcDiscovery(oidc, timeout[-1]).fetch_keys()

        issuer = OidcIssuer(oidc, keys, clock)
        async with running(url, FakeCluster(), issuers=(issuer,)) as api:
            api.reviewer.add("unused", Caller("oidc:alice"), within("research"))
            yield World(api, publisher, clock, timeout)


@pytest_asyncio.fixture
async def world(sqlite_url: str) -> AsyncIterator[World]:
    async with believing(sqlite_url) as found:
        yield found


async def test_who_has_a_token_of_the_issuer_may_do_what_kubernetes_lets_them(world: World) -> None:
    token = world.token(groups=["team-a"])
    assert (await world.runs(token)).status_code == 200
    denied = await world.api.client.delete(f"{RUNS}/gpt", headers={"Authorization": f"Bearer {token}"})
    assert denied.status_code == 403 and "oidc:alice may not delete" in denied.json()["detail"]
    assert not any(asked == token for asked in world.api.reviewer.asked)
    assert world.publisher.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_no_hostile_token_is_let_in_or_ends_in_anything_but_a_sentence(world: World) -> None:
    for name, (make, says) in HOSTILE.items():
        token = make(world.publisher, time.time())
        answer = await world.runs(token)
        assert answer.status_code == 401, name
        assert says in answer.json()["detail"], name
        assert answer.headers["www-authenticate"] == 'Bearer realm="footplate", error="invalid_token"', name
        assert not any(part in answer.text for part in token.split(".") if len(part) > 8), name
    assert (await world.runs(world.token())).status_code == 200
    assert world.publisher.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_the_issuer_changes_its_keys_while_people_work(world: World) -> None:
    first = world.token()
    assert (await world.runs(first)).status_code == 200
    world.publisher.keys.insert(0, rsa_key("second"))
    world.clock.seconds += PAUSE_SECONDS
    answers = await asyncio.gather(*(world.runs(world.token()) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert world.publisher.asked.count("/keys") == 2
    assert (await world.runs(first)).status_code == 200
    world.publisher.keys = [rsa_key("third")]
    world.clock.seconds += PAUSE_SECONDS
    assert (await world.runs(world.token())).status_code == 200
    assert (await world.runs(first)).status_code == 401


async def test_while_the_issuer_is_silent_known_keys_go_on_and_others_are_told_to_come_back(
    world: World,
) -> None:
    known = world.token()
    assert (await world.runs(known)).status_code == 200
    world.publisher.silent = True
    world.timeout.append(SILENCE)
    world.publisher.keys.insert(0, rsa_key("second"))
    for _ in range(10):
        world.clock.seconds += REFRESH_SECONDS
        assert (await world.runs(known)).status_code == 200
        unknown = await world.runs(world.token())
        assert unknown.status_code == 503
        assert unknown.json()["type"] == "urn:footplate:problem:issuer-unavailable"
        assert int(unknown.headers["retry-after"]) > 0
        assert "www-authenticate" not in unknown.headers
    world.publisher.silent = False
    world.timeout.pop()
    world.clock.seconds += PAUSE_SECONDS
    assert (await world.runs(world.token())).status_code == 200


async def test_nobody_waits_for_an_issuer_who_needs_it_not(world: World) -> None:
    world.publisher.silent = True
    stranger = asyncio.create_task(world.runs(world.token()))
    while not world.publisher.asked:
        await asyncio.sleep(0)
    assert (await world.api.client.get(RUNS)).status_code == 200
    assert not stranger.done()
    world.publisher.silent = False
    assert (await stranger).status_code == 200


@pytest.mark.parametrize(
    ("discovery", "says"),
    [
        pytest.param({"issuer": "https://b.example.com"}, "another issuer", id="another-issuer"),
        pytest.param({"issuer": None}, "another issuer", id="no-issuer"),
        pytest.param({"jwks_uri": None}, "no jwks_uri", id="no-keys"),
        pytest.param({"jwks_uri": "http://keys.example.com"}, "no jwks_uri", id="plain-http"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, "no jwks_uri", id="a-file"),
        pytest.param({"padding": "a" * MOST_BYTES}, "more than", id="too-long"),
    ],
)
async def test_what_an_issuer_says_wrong_is_no_reason_to_believe_it(
    discovery: dict[str, Any], says: str
) -> None:
    async with publishing() as publisher:
        publisher.discovery = discovery
        with pytest.raises(IssuerUnavailable, match=says):
            await OidcDiscovery(believed(publisher)).fetch_keys()
        assert "/keys" not in publisher.asked


@pytest.mark.parametrize("path", ["/gone", "/moved", "/html"])
async def test_keys_that_are_elsewhere_or_no_keys_are_not_looked_for(path: str) -> None:
    async with publishing() as publisher:
        publisher.discovery = {"jwks_uri": f"{publisher.url}{path}"}
        with pytest.raises(IssuerUnavailable, match="it answered"):
            await OidcDiscovery(believed(publisher)).fetch_keys()
        assert publisher.asked[-1] == path


async def test_an_issuer_is_believed_by_the_certificates_given_and_no_others(
    tmp_path: Path,
) -> None:
    certificate, _ = files = self_signed(tmp_path)
    async with publishing(files) as publisher:
        oidc = believed(publisher)
        assert publisher.url.startswith("https://")
        with pytest.raises(IssuerUnavailable, match="Certificate"):
            await OidcDiscovery(oidc).fetch_keys()
        assert publisher.asked == []
        assert len(await OidcDiscovery(replace(oidc, ca_file=certificate)).fetch_keys()) == 2


@pytest.mark.parametrize(
    ("exempt", "tunnelled"),
    [
        pytest.param("", True, id="through-the-proxy"),
        pytest.param("localhost, 127.0.0.1", False, id="but-for-hosts-that-no-proxy-names"),
    ],
)
async def test_an_issuer_behind_a_proxy_is_asked_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exempt: str, tunnelled: bool
) -> None:
    certificate, _ = files = self_signed(tmp_path)
    async with publishing(files) as publisher, tunnelling() as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        monkeypatch.setenv("NO_PROXY", exempt)
        discovery = OidcDiscovery(replace(believed(publisher), ca_file=certificate))
        assert len(await discovery.fetch_keys()) == 2
        place = publisher.url.removeprefix("https://")
        assert set(tunnel.asked) == ({place} if tunnelled else set())
        tunnel.status = 403
        with nullcontext() if not tunnelled else pytest.raises(IssuerUnavailable, match="ProxyError"):
            await discovery.fetch_keys()


async def test_through_the_proxy_the_issuer_is_asked_and_nobody_else(sqlite_url: str, tmp_path: Path) -> None:
    [port, nobody] = claim_ports(2)
    certificate, _ = files = self_signed(tmp_path)
    async with publishing(files) as publisher, tunnelling() as tunnel:
        variables = {
            "FOOTPLATE_OIDC_ISSUER": publisher.url,
            "FOOTPLATE_OIDC_AUDIENCES": CLIENT,
            "FOOTPLATE_OIDC_USERNAME_PREFIX": "-",
            "FOOTPLATE_OIDC_CA_FILE": str(certificate),
            "HTTPS_PROXY": tunnel.url,
            "HTTP_PROXY": f"http://127.0.0.1:{nobody}",  # the played API server has no TLS
            "NO_PROXY": "",
        }
        with serving(tmp_path, port, sqlite_url, **variables):
            async with client(port) as probe:
                await eventually(lambda: ready(probe), bool, seconds=60)
                token = publisher.keys[0].sign(publisher.claims(time.time(), sub="admin"))
                answer = await probe.get(RUNS, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 200, answer.text
        assert set(tunnel.asked) == {publisher.url.removeprefix("https://")}


def test_certificates_that_cannot_be_read_are_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    for path in (tmp_path / "ca.crt", tmp_path / "none"):
        with pytest.raises(ValueError, match="FOOTPLATE_OIDC_CA_FILE must be a file of certificates"):
            OidcDiscovery(OidcConfig("https://b.example.com", (CLIENT,), ca_file=path))


async def test_a_process_is_told_of_its_issuer_by_its_environment_and_idles_small(
    sqlite_url: str, tmp_path: Path
) -> None:
    [port] = claim_ports(1)
    async with publishing() as publisher:
        variables = {
            "FOOTPLATE_OIDC_ISSUER": publisher.url,
            "FOOTPLATE_OIDC_AUDIENCES": CLIENT,
            "FOOTPLATE_OIDC_USERNAME_PREFIX": "-",
        }
        with serving(tmp_path, port, sqlite_url, fresh=True, **variables) as process:
            async with client(port) as probe:
                await eventually(lambda: ready(probe), bool, seconds=60)
                token = publisher.keys[0].sign(publisher.claims(time.time(), sub="admin"))
                answer = await probe.get(RUNS, headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 200, answer.text
            taken = resident(process.pid)
            print(f"with an issuer: {taken:.0f} MB")
            assert taken < IDLE_MEGABYTES
