"""What reviews ask and answer, how long verdicts stand, and what is wrong with a token."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from collections.abc import Callable

import pytest

from footplate_api.errors import ClusterUnavailable, Forbidden, Unauthenticated
from footplate_api.identity.authentication import (
    LONGEST,
    Authentication,
    bearer_token,
    expiry,
    unverified_claims,
)
from footplate_api.identity.authorization import AT_ONCE, Authorization
from footplate_api.identity.caller import Caller, Right
from footplate_api.identity.review_cache import (
    FRESH_SECONDS,
    REFUSED_SECONDS,
    STALE_SECONDS,
    ReviewCache,
)
from footplate_api.identity.reviews import access_review, caller_from_status, token_review
from footplate_api.identity.rights import RequiredRight
from tests.support.clock import Clock
from tests.support.review_server import ADMIN, Asked, FakeReviewer, within

ALICE = Caller("alice", groups=("team-a",), extra=(("scopes", ("x", "y")),))


def jwt(**claims: object) -> str:
    """A token with these claims that nobody signed."""
    parts = ({"alg": "RS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


# -- tokens ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "says"),
    [
        pytest.param(None, "no bearer token", id="none"),
        pytest.param("", "must be Bearer", id="empty"),
        pytest.param("Basic YTpi", "must be Bearer", id="basic"),
        pytest.param("Bearer", "must be Bearer", id="no-token"),
        pytest.param("Bearer a b", "must be Bearer", id="two-words"),
        pytest.param("Bearer tökén", "must be Bearer", id="not-ascii"),
        pytest.param("Bearer a\r\nX: y", "must be Bearer", id="another-header"),
        pytest.param("Bearer " + "a" * (LONGEST + 1), f"{LONGEST}", id="long"),
    ],
)
def test_what_is_no_bearer_token_is_told(header: str | None, says: str) -> None:
    with pytest.raises(Unauthenticated, match=says):
        bearer_token(header)


def test_the_scheme_is_case_insensitive() -> None:
    assert bearer_token("bEARER  abc.def-_~+/=") == "abc.def-_~+/="


@pytest.mark.parametrize(
    "token", ["opaque", "a.b", "a.!!.c", "a.bm8.c", "a.W10.c", "..", "a." + "W" * 4000 + ".c"]
)
def test_a_token_that_is_no_json_web_token_says_nothing(token: str) -> None:
    assert unverified_claims(token) == {}


def test_when_a_token_ends_is_its_own_word() -> None:
    assert expiry(unverified_claims(jwt(exp=1234))) == 1234.0
    assert expiry({}) == expiry({"exp": "soon"}) == expiry({"exp": True}) == float("inf")


# -- reviews ---------------------------------------------------------------------------


def test_a_token_review_names_the_audiences() -> None:
    assert token_review("t", ["footplate-api"])["spec"] == {"token": "t", "audiences": ["footplate-api"]}
    assert token_review("t", [])["spec"] == {"token": "t"}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"authenticated": False, "user": {"username": "a"}, "audiences": ["us"]}, id="not"),
        pytest.param({"authenticated": True, "user": {"username": "a"}}, id="no-audience"),
        pytest.param({"authenticated": True, "user": {"username": "a"}, "audiences": ["you"]}, id="another"),
        pytest.param({"authenticated": True, "user": {}, "audiences": ["us"]}, id="nobody"),
        pytest.param({"authenticated": True, "audiences": ["us"]}, id="no-user"),
    ],
)
def test_a_token_for_somebody_else_is_nobodys(status: dict[str, object]) -> None:
    assert caller_from_status(status, ["us"]) is None


def test_whose_token_it_is() -> None:
    extra = {"authentication.kubernetes.io/pod-uid": ["p1"], "a": ["b"]}
    user = {"username": "system:serviceaccount:team-a:default", "uid": "u", "groups": ["g"], "extra": extra}
    found = caller_from_status({"authenticated": True, "user": user, "audiences": ["us"]}, ["us", "them"])
    assert found is not None
    assert (found.uid, found.groups, found.pod_uid, found.namespace) == ("u", ("g",), "p1", "team-a")
    assert ALICE.pod_uid is None and ALICE.namespace is None


def test_an_access_review_says_who_wants_what() -> None:
    assert access_review(ALICE, Right("get", namespace="team-a", name="gpt", subresource="log"))["spec"] == {
        "user": "alice",
        "groups": ["team-a"],
        "extra": {"scopes": ["x", "y"]},
        "resourceAttributes": {
            "verb": "get",
            "group": "footplate.dev",
            "version": "*",
            "resource": "trainingruns",
            "subresource": "log",
            "namespace": "team-a",
            "name": "gpt",
        },
    }
    asked = access_review(Caller("p"), Right("get", path="/metrics"))["spec"]
    assert asked == {"user": "p", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}


def test_a_name_is_asked_for_only_where_a_route_has_one() -> None:
    path = {"namespace": "a", "name": "gpt"}
    assert RequiredRight("get", named=True).resolve(path) == Right("get", namespace="a", name="gpt")
    assert RequiredRight("create").resolve(path) == Right("create", namespace="a")


# -- how long a verdict stands ----------------------------------------------------------


@pytest.mark.parametrize(("answer", "seconds"), [(True, FRESH_SECONDS), (False, REFUSED_SECONDS)])
async def test_a_verdict_is_asked_for_again_when_it_is_no_longer_fresh(answer: bool, seconds: float) -> None:
    clock, ask = Clock(), Asked(answer)
    verdicts = ReviewCache[str, object](clock)
    for moment, times in ((0.0, 1), (seconds - 0.1, 1), (0.1, 2)):
        clock.seconds += moment
        assert await verdicts.get("a", ask) is answer
        assert ask.times == times


async def test_whoever_asks_the_same_at_once_shares_one_question() -> None:
    ask = Asked(True)
    verdicts = ReviewCache[str, object](Clock())
    assert await asyncio.gather(*(verdicts.get("a", ask) for _ in range(50))) == [True] * 50
    assert ask.times == 1


async def test_a_good_verdict_stands_while_the_api_server_is_away_and_no_longer_than_it_may() -> None:
    clock, ask = Clock(), Asked(True)
    verdicts = ReviewCache[str, object](clock)
    await verdicts.get("a", ask)
    ask.away = True
    clock.seconds += STALE_SECONDS - 1
    assert await verdicts.get("a", ask) is True
    clock.seconds += 2
    with pytest.raises(ClusterUnavailable):
        await verdicts.get("a", ask)


async def test_a_refusal_does_not_stand_in_for_an_answer() -> None:
    clock, ask = Clock(), Asked(False)
    verdicts = ReviewCache[str, object](clock)
    await verdicts.get("a", ask)
    ask.away = True
    clock.seconds += REFUSED_SECONDS
    with pytest.raises(ClusterUnavailable):
        await verdicts.get("a", ask)


async def test_what_ended_is_not_remembered_even_while_the_api_server_is_away() -> None:
    clock, ask = Clock(), Asked(True)
    verdicts = ReviewCache[str, object](clock)
    await verdicts.get("a", ask, until=clock.seconds + 5)
    ask.away = True
    clock.seconds += 5
    with pytest.raises(ClusterUnavailable):
        await verdicts.get("a", ask, until=clock.seconds)


async def test_the_oldest_of_too_many_are_forgotten() -> None:
    asks = [Asked(True) for _ in range(4)]
    verdicts = ReviewCache[int, object](Clock(), most=2)
    for number in (0, 1, 2, 0, 2):
        await verdicts.get(number, asks[number])
    assert [ask.times for ask in asks] == [2, 1, 1, 0]


@pytest.mark.parametrize(("answer", "seconds"), [(True, STALE_SECONDS), (False, REFUSED_SECONDS)])
async def test_what_is_too_old_to_stand_in_for_anything_is_forgotten(answer: bool, seconds: float) -> None:
    clock, ask = Clock(), Asked(answer)
    verdicts = ReviewCache[int, object](clock)
    for number in range(100):
        await verdicts.get(number, ask)
    clock.seconds += seconds - 1.0
    await verdicts.get(100, ask)
    assert len(verdicts) == 101
    clock.seconds += 1.0
    await verdicts.get(101, ask)
    assert len(verdicts) == 2


async def test_who_leaves_takes_the_question_from_nobody() -> None:
    released = asyncio.Event()

    async def slow() -> bool:
        await released.wait()
        return True

    verdicts = ReviewCache[str, bool](Clock())
    first, second = (asyncio.create_task(verdicts.get("a", slow)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    released.set()
    assert await second is True


# -- callers and their rights -----------------------------------------------------------


def authentication(reviewer: FakeReviewer, now: Callable[[], float] = lambda: 0.0) -> Authentication:
    return Authentication(reviewer, clock=Clock(), now=now)


async def test_a_token_is_reviewed_once_for_a_while() -> None:
    reviewer = FakeReviewer()
    door = authentication(reviewer)
    assert [(await door.authenticate(f"Bearer {ADMIN}")).username for _ in range(3)] == ["admin"] * 3
    assert reviewer.asked == [ADMIN]


async def test_a_token_for_the_api_server_does_for_components_alone() -> None:
    reviewer = FakeReviewer()
    reviewer.add("scraper", Caller("prometheus"), within(), audience="kubernetes")
    door = authentication(reviewer)
    with pytest.raises(Unauthenticated, match="not for the audience footplate-api"):
        await door.authenticate("Bearer scraper")
    assert (await door.authenticate("Bearer scraper", of_a_component=True)).username == "prometheus"


async def test_a_token_that_has_ended_is_asked_about_each_time() -> None:
    reviewer = FakeReviewer()
    token = jwt(exp=100)
    reviewer.add(token, ALICE, within())
    seconds = 99.0
    door = authentication(reviewer, lambda: seconds)
    await door.authenticate(f"Bearer {token}")
    seconds = 100.0
    del reviewer.tokens[token]
    with pytest.raises(Unauthenticated):
        await Authentication(reviewer, clock=Clock(), now=lambda: seconds).authenticate(f"Bearer {token}")


async def test_what_is_not_granted_is_forbidden_in_words() -> None:
    reviewer = FakeReviewer()
    reviewer.add("t", ALICE, within("team-a"))
    may = Authorization(reviewer, clock=Clock())
    await may.require(ALICE, Right("get", namespace="team-a", name="gpt"))
    with pytest.raises(
        Forbidden, match=r'alice may not get trainingruns\.footplate\.dev "gpt" in the namespace "b"'
    ):
        await may.require(ALICE, Right("get", namespace="b", name="gpt"))


async def test_rights_are_remembered_without_the_caller_that_each_request_makes_anew() -> None:
    reviewer = FakeReviewer()
    reviewer.add("t", ALICE, within("team-a"))
    may = Authorization(reviewer, clock=Clock())
    right = Right("get", namespace="team-a", name="gpt")

    async def asks(groups: tuple[str, ...]) -> weakref.ref[Caller]:
        who = Caller("alice", groups=groups)
        await may.require(who, right)
        assert await may.listable_namespaces(who, ["team-a", "team-b"]) == {"team-a"}
        return weakref.ref(who)

    callers = [await asks(groups) for groups in (("x", "y"), ("x", "y"), ("x', 'y",))]
    await asyncio.sleep(0)  # tasks that have asked are over
    gc.collect()
    assert [caller() for caller in callers] == [None] * 3
    assert len(reviewer.asked) == 2 * 4  # of one caller but once, and of another one besides


async def test_which_namespaces_may_be_listed() -> None:
    reviewer = FakeReviewer()
    reviewer.add("t", ALICE, within("team-a", "team-c"))
    may = Authorization(reviewer, clock=Clock())
    assert await may.listable_namespaces(ALICE, ["team-a", "team-b", "team-c"]) == {"team-a", "team-c"}
    assert await may.listable_namespaces(Caller("admin"), ["team-a"]) is None


class Slow(FakeReviewer):
    """Answers a review of one namespace once `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.now = self.most = 0

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        found = await super().is_allowed(caller, right)
        if right.namespace:
            self.now += 1
            self.most = max(self.most, self.now)
            await self.go.wait()
            self.now -= 1
        return found


async def passing() -> None:
    """Until nobody has anything to do."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_looks_at_all_namespaces_share_their_turns_and_a_user_has_one() -> None:
    reviewer = Slow()
    may = Authorization(reviewer, clock=Clock())
    namespaces = [f"team-{number}" for number in range(100)]
    tokens = [Caller("alice", extra=(("credential-id", (str(number),)),)) for number in range(5)]
    others = [Caller(f"user-{number}") for number in range(5)]
    for asking in (*tokens, *others):
        reviewer.add("t", asking, within("team-7"))
    one = [
        asyncio.create_task(may.listable_namespaces(caller, namespaces)) for caller in (*tokens, tokens[0])
    ]
    await passing()
    assert (reviewer.now, reviewer.most) == (AT_ONCE, AT_ONCE)
    assert len({asked.namespace for asked in reviewer.asked if isinstance(asked, Right)}) == 1 + AT_ONCE
    many = [asyncio.create_task(may.listable_namespaces(caller, namespaces)) for caller in others]
    await passing()
    assert (reviewer.now, reviewer.most) == (AT_ONCE, AT_ONCE)
    reviewer.go.set()
    assert await asyncio.gather(*one, *many) == [{"team-7"}] * 11
    assert reviewer.most == AT_ONCE
    assert len(reviewer.asked) == 10 * (1 + len(namespaces))  # what one token asks twice is one look


async def test_a_look_that_fails_asks_for_nothing_more() -> None:
    reviewer = FakeReviewer()
    reviewer.add("t", ALICE, within())
    may = Authorization(reviewer, clock=Clock())
    await may.is_allowed(ALICE, Right("list"))
    reviewer.available = False
    with pytest.raises(ClusterUnavailable):
        await may.listable_namespaces(ALICE, [f"team-{number}" for number in range(100)])
    await passing()
    assert len(reviewer.asked) <= 1 + 2 * AT_ONCE
    reviewer.available = True
    assert await may.listable_namespaces(ALICE, ["team-a"]) == frozenset()


def test_words_of_a_path_are_kept_as_long_as_an_object_can_be_named() -> None:
    right = RequiredRight("get", named=True).resolve({"namespace": "a" * 10_000, "name": "b" * 500_000})
    assert (right.namespace, right.name) == ("a" * 64, "b" * 254)  # one more than there can be
    assert RequiredRight("list").resolve({"namespace": "team-a"}).namespace == "team-a"
