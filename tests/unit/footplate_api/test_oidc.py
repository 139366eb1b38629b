"""Whom tokens of an OIDC issuer name, which are refused, and when its keys are fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from footplate_api.errors import IssuerUnavailable, Unauthenticated
from footplate_api.identity.authentication import Authentication
from footplate_api.identity.caller import Caller
from footplate_api.identity.oidc.claims import LEEWAY_SECONDS, caller_from_claims
from footplate_api.identity.oidc.config import OidcConfig
from footplate_api.identity.oidc.issuer import OidcIssuer
from footplate_api.identity.oidc.jwks_cache import PAUSE_SECONDS, REFRESH_SECONDS
from footplate_api.identity.oidc.keys import JsonWebKey, matching_keys, parse_jwks
from tests.support.clock import Clock
from tests.support.oidc import CLIENT, HOSTILE, Make, Publisher, ec_key, rsa_key
from tests.support.review_server import ADMIN, FakeReviewer

NOW = 1_790_000_000.0
PUBLISHER = Publisher()
OIDC = OidcConfig(
    PUBLISHER.url,
    (CLIENT, "another-client"),
    username_prefix="oidc:",
    groups_claim="groups",
    required=(("tenant", "research"),),
)


class Source:
    """Gives the publisher's keys, unless it is away; counts how often it is asked."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.away = False
        self.times = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> Sequence[JsonWebKey]:
        self.times += 1
        await self.answers.wait()
        if self.away:
            raise IssuerUnavailable("The OIDC issuer does not return its keys (Fake).")
        return self.publisher.usable()


class World:
    """An issuer, the API's knowledge of it, and a clock that the test moves."""

    def __init__(self) -> None:
        self.publisher = Publisher()
        self.source = Source(self.publisher)
        self.clock = Clock()
        self.reviewer = FakeReviewer()
        issuer = OidcIssuer(OIDC, self.source, self.clock, lambda: NOW)
        self.door = Authentication(self.reviewer, issuers=[issuer], clock=self.clock, now=lambda: NOW)

    def token(self, key: int = 0, **more: Any) -> str:
        return self.publisher.keys[key].sign(self.publisher.claims(NOW, **more))

    async def caller(self, token: str) -> Caller:
        return await self.door.authenticate(f"Bearer {token}")


@pytest.fixture
def world() -> World:
    return World()


# -- tokens that are taken, and that are not ---------------------------------------------


@pytest.mark.parametrize("key", [0, 1], ids=["RS256", "ES256"])
async def test_a_good_token_names_its_owner(world: World, key: int) -> None:
    found = await world.caller(world.token(key, groups=["team-a", "team-b"]))
    assert found == Caller("oidc:alice", groups=("team-a", "team-b", "system:authenticated"))
    assert world.reviewer.asked == []


async def test_a_token_of_kubernetes_goes_to_kubernetes(world: World) -> None:
    assert (await world.caller(ADMIN)).username == "admin"
    assert world.source.times == 0


@pytest.mark.parametrize(("make", "says"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_token_is_refused_with_a_sentence_that_leaks_nothing(
    world: World, make: Make, says: str
) -> None:
    token = make(world.publisher, NOW)
    with pytest.raises(Unauthenticated) as refused:
        await world.caller(token)
    said = refused.value.detail
    assert says in said and said.endswith(".")
    assert refused.value.headers["WWW-Authenticate"].endswith('error="invalid_token"')
    assert not any(part in said for part in token.split(".") if len(part) > 3)
    assert world.source.times <= 1


async def test_what_a_token_offers_beside_its_claims_is_not_looked_at(world: World) -> None:
    mallory = rsa_key("mallory")
    token = world.publisher.keys[0].sign(
        world.publisher.claims(NOW), jwk=mallory.public, jku="https://b", x5c=["MIIB"]
    )
    assert (await world.caller(token)).username == "oidc:alice"


# -- claims ------------------------------------------------------------------------------


def claims(**more: Any) -> dict[str, Any]:
    return PUBLISHER.claims(NOW, **more)


@pytest.mark.parametrize(
    ("given", "said", "name"),
    [
        pytest.param({}, {}, "oidc:alice", id="sub"),
        pytest.param({"username_prefix": ""}, {}, "alice", id="no-prefix"),
        pytest.param({"username_claim": "email"}, {"email": "a@b.c"}, "oidc:a@b.c", id="email"),
        pytest.param(
            {"username_claim": "email"},
            {"email": "a@b.c", "email_verified": True},
            "oidc:a@b.c",
            id="verified",
        ),
        pytest.param({"username_claim": "upn"}, {"upn": "alice@corp"}, "oidc:alice@corp", id="another-claim"),
        pytest.param({}, {"aud": ["x", "another-client"]}, "oidc:alice", id="second-audience"),
        pytest.param({}, {"iat": None, "nbf": None}, "oidc:alice", id="only-exp"),
        pytest.param({}, {"exp": NOW - LEEWAY_SECONDS + 1}, "oidc:alice", id="late-clock"),
        pytest.param({}, {"nbf": NOW + LEEWAY_SECONDS, "iat": NOW + 60}, "oidc:alice", id="early-clock"),
    ],
)
def test_who_is_named(given: Mapping[str, Any], said: Mapping[str, Any], name: str) -> None:
    assert caller_from_claims(claims(**said), replace(OIDC, **given), NOW).username == name


@pytest.mark.parametrize(
    ("given", "said", "says"),
    [
        pytest.param(
            {"username_prefix": ""}, {"sub": "system:admin"}, "sub has a name with the", id="system-user"
        ),
        pytest.param(
            {"username_prefix": "sys"}, {"sub": "tem:admin"}, "sub has a name with the", id="in-two-parts"
        ),
        pytest.param(
            {"groups_prefix": "sys"}, {"groups": "tem:masters"}, "groups has a name with the", id="a-group"
        ),
        pytest.param(
            {"username_claim": "email"},
            {"email": "a@b.c", "email_verified": False},
            "email_verified is not true",
            id="not-verified",
        ),
        pytest.param(
            {"username_claim": "email"},
            {"email": "a@b.c", "email_verified": "true"},
            "email_verified is not true",
            id="verified-as-a-text",
        ),
        pytest.param({"username_claim": "email"}, {}, "email must be a string", id="no-email"),
    ],
)
def test_who_is_not(given: Mapping[str, Any], said: Mapping[str, Any], says: str) -> None:
    with pytest.raises(Unauthenticated, match=says):
        caller_from_claims(claims(**said), replace(OIDC, **given), NOW)


@pytest.mark.parametrize(
    ("said", "groups"),
    [
        pytest.param(["a", "b"], ("g:a", "g:b"), id="list"),
        pytest.param("a", ("g:a",), id="text"),
        pytest.param(None, (), id="none"),
        pytest.param([], (), id="empty"),
    ],
)
def test_groups_get_their_prefix(said: object, groups: tuple[str, ...]) -> None:
    found = caller_from_claims(claims(groups=said), replace(OIDC, groups_prefix="g:"), NOW)
    assert found.groups == (*groups, "system:authenticated")


def test_without_a_claim_for_them_there_are_no_groups() -> None:
    assert caller_from_claims(claims(groups=["a"]), replace(OIDC, groups_claim=None), NOW).groups == (
        "system:authenticated",
    )


# -- keys --------------------------------------------------------------------------------

RSA, EC = rsa_key("rsa").public, ec_key("ec").public


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({**RSA, "use": "enc"}, id="encrypts"),
        pytest.param({name: v for name, v in RSA.items() if name != "kid"}, id="no-kid"),
        pytest.param({**RSA, "alg": "HS256"}, id="symmetric-algorithm"),
        pytest.param({**RSA, "alg": "ES256"}, id="algorithm-of-another-kind"),
        pytest.param({**RSA, "n": "!"}, id="broken"),
        pytest.param({**RSA, "n": None}, id="no-modulus"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}, id="secret"),
        pytest.param({**EC, "crv": "secp256k1"}, id="another-curve"),
        pytest.param({**EC, "y": EC["x"]}, id="no-point-of-the-curve"),
        pytest.param({"kty": "OKP", "crv": "X", "kid": "o"}, id="unknown"),
        pytest.param("rsa", id="text"),
    ],
)
def test_a_key_that_cannot_sign_a_token_is_left_out(jwk: Any) -> None:
    good = ec_key("good").public
    assert [key.id for key in parse_jwks({"keys": [jwk, good]})] == ["good"]
    with pytest.raises(ValueError, match="none of its keys"):
        parse_jwks({"keys": [jwk]})


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": []}])
def test_what_is_no_set_of_keys(document: object) -> None:
    with pytest.raises(ValueError, match="keys"):
        parse_jwks(document)


def test_a_key_without_an_algorithm_does_for_those_of_its_kind() -> None:
    [key] = parse_jwks({"keys": [{name: v for name, v in RSA.items() if name != "alg"}]})
    assert key.algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert matching_keys([key], "rsa", "ES256") == matching_keys([key], "other", "RS256") == ()


def test_a_private_key_that_was_published_is_read_as_a_public_one() -> None:
    [key] = parse_jwks({"keys": [{**RSA, "d": "AQAB", "p": "AQAB"}]})
    assert not hasattr(key.public, "private_numbers")


async def test_a_short_key_signs_nothing(world: World) -> None:
    world.publisher.keys = [rsa_key("short", 1024)]
    with pytest.raises(Unauthenticated, match="signature"):
        await world.caller(world.token())


# -- when they are fetched ---------------------------------------------------------------


async def test_keys_are_fetched_once_for_all_who_wait_for_them(world: World) -> None:
    token = world.token()
    world.source.answers.clear()
    waiting = [asyncio.create_task(world.caller(token)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    world.source.answers.set()
    assert {found.username for found in await asyncio.gather(*waiting)} == {"oidc:alice"}
    assert world.source.times == 1


async def test_a_new_key_is_fetched_when_a_token_names_it(world: World) -> None:
    await world.caller(world.token())
    old = world.token()
    world.publisher.keys = [rsa_key("next")]
    world.clock.seconds += PAUSE_SECONDS
    assert (await world.caller(world.token())).username == "oidc:alice"
    with pytest.raises(Unauthenticated, match="does not publish"):
        await world.caller(old)
    assert world.source.times == 2


async def test_ever_new_names_of_keys_do_not_make_us_ask_more_often(world: World) -> None:
    await world.caller(world.token())
    for number in range(200):
        with pytest.raises(Unauthenticated, match="does not publish"):
            await world.caller(world.publisher.keys[0].sign(world.publisher.claims(NOW), kid=f"k{number}"))
        world.clock.seconds += PAUSE_SECONDS / 100
    assert world.source.times <= 3


async def test_a_key_that_was_taken_back_is_not_believed_after_ten_minutes(world: World) -> None:
    token = world.token()
    await world.caller(token)
    world.publisher.keys = [rsa_key("next")]
    world.clock.seconds += REFRESH_SECONDS - 1
    assert (await world.caller(token)).username == "oidc:alice"
    world.clock.seconds += 1
    world.source.answers.clear()
    waiting = [asyncio.create_task(world.caller(token)) for _ in range(20)]
    while world.source.times < 2:
        await asyncio.sleep(0)
    world.source.answers.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(refusal) for refusal in found} == {Unauthenticated}
    assert world.source.times == 2


async def test_while_the_issuer_is_away_known_keys_go_on_and_others_are_no_refusal(world: World) -> None:
    token = world.token()
    await world.caller(token)
    world.source.away = True
    world.publisher.keys.append(rsa_key("next"))
    for _ in range(100):
        world.clock.seconds += REFRESH_SECONDS
        assert (await world.caller(token)).username == "oidc:alice"
        with pytest.raises(IssuerUnavailable):
            await world.caller(world.token(-1))
    world.source.away = False
    world.clock.seconds += PAUSE_SECONDS
    assert (await world.caller(world.token(-1))).username == "oidc:alice"


async def test_an_issuer_that_was_never_there_is_asked_again_after_a_pause(world: World) -> None:
    world.source.away = True
    for _ in range(10):
        with pytest.raises(IssuerUnavailable):
            await world.caller(world.token())
    assert world.source.times == 1
    world.source.away = False
    world.clock.seconds += PAUSE_SECONDS
    assert (await world.caller(world.token())).username == "oidc:alice"
