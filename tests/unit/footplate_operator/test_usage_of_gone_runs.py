"""Pods that outlive their run, and records that outlive both."""

from __future__ import annotations

from footplate_contracts.names import Role
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.tracker import UNTOLD_SECONDS
from footplate_operator.usage.writes import COMPLETED_SINCE, USAGE_RECORD
from tests.support.operator_fakes import NAME
from tests.support.pod_usage import NOON, Bookkeeping, begun, node

DAY = 86_400


async def tended(books: Bookkeeping, seconds: float = 60.0) -> None:
    books.clock.advance(seconds)
    await books.keeper.write_due()


async def test_pods_outlive_their_run_and_are_noted_to_their_end() -> None:
    books = await begun()
    books.cluster.bury(TRAINING_RUN, NAME)
    books.keeper.observe_owner(books.owner, gone=True)
    await tended(books)
    assert not books.records()["uid-1-0"].completed
    books.end("w0")
    body = books.cluster.objects[POD, "w0"]
    books.cluster.bury(POD, "w0")
    books.hear(body, gone=True)
    await tended(books)
    assert books.pods()["w0"].end == "2026-01-31T12:01:00Z" and books.records()["uid-1-0"].completed
    assert not books.keeper.kept


async def test_what_a_run_left_that_went_while_nobody_looked_is_found() -> None:
    books = await begun()
    books.bind("c1", role=Role.COORDINATOR, cpu="1")
    await books.note()
    books.clock.advance(30)
    books.end("c1")
    books.cluster.bury(TRAINING_RUN, NAME)
    books.cluster.bury(POD, "w0")
    books.begin()
    books.clock.advance(600)
    await books.sweeper.sweep()
    await tended(books)
    assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == (NOON, True)
    assert (books.pods()["c1"].end, books.pods()["c1"].estimated) == ("2026-01-31T12:00:30Z", False)
    assert books.records()["uid-1-0"].completed


async def test_a_run_that_is_there_is_left_to_whoever_decides_about_it() -> None:
    books = await begun()
    books.end("w0")
    await books.note()
    books.begin()
    await books.sweeper.sweep()
    await tended(books)
    assert not books.records()["uid-1-0"].completed and not books.keeper.kept


async def test_runs_of_another_installation_are_left_alone() -> None:
    books = await begun()
    books.begin()
    books.cluster.refuse["get", TRAINING_RUN] = RequestForbidden("another namespace", 403)
    await books.sweeper.sweep()
    await tended(books)
    assert not books.keeper.kept and not books.records()["uid-1-0"].completed
    assert books.pods()["w0"].end is None


async def test_pods_where_nobody_may_look_end_by_the_last_evidence_after_a_day() -> None:
    """Another installation that looks after them would have said that they go on."""
    books = await begun()
    for kind in (TRAINING_RUN, POD):
        books.cluster.refuse["get", kind] = RequestForbidden("not a namespace of ours any more", 403)
    for seconds, end in ((DAY - 1, None), (1, NOON)):
        books.clock.advance(seconds)
        books.begin()
        await books.sweeper.sweep()
        await tended(books, 0)
        assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == (end, end is not None)
        assert not books.keeper.kept


async def test_what_was_heard_where_nobody_may_look_any_more_is_written_before_it_is_set_aside() -> None:
    books = await begun()
    books.begin()
    books.clock.advance(60)
    books.end("w0")
    books.hear(books.cluster.objects[POD, "w0"])
    for kind in (TRAINING_RUN, POD):
        books.cluster.refuse["get", kind] = RequestForbidden("not a namespace of ours any more", 403)
    books.keeper.track_orphans()
    await tended(books, 0)
    assert books.pods()["w0"].end == "2026-01-31T12:01:00Z" and not books.keeper.kept


async def test_what_is_over_goes_once_nobody_has_taken_it_for_a_week() -> None:
    books = await begun()
    books.end("w0")
    await books.note()
    books.cluster.bury(TRAINING_RUN, NAME)
    books.keeper.observe_owner(books.owner, gone=True)
    await tended(books)
    since = books.cluster.objects[USAGE_RECORD, "uid-1-0"]["metadata"]["annotations"][COMPLETED_SINCE]
    assert since == "2026-01-31T12:01:00Z"
    books.clock.advance(7 * DAY - 1)
    await books.sweeper.sweep()
    assert "uid-1-0" in books.records()
    books.clock.advance(1)
    await books.sweeper.sweep()
    assert "uid-1-0" not in books.records()


async def test_a_pod_that_was_told_of_before_its_run_is_not_lost() -> None:
    books = Bookkeeping()
    books.cluster.put(node("a", NOON))
    books.bind("w0")
    books.hear(books.cluster.objects[POD, "w0"])
    books.cluster.bury(TRAINING_RUN, NAME)
    books.clock.advance(60)
    books.keeper.track_orphans()
    await tended(books, 0)
    assert books.pods()["w0"].profile == "h100" and books.pods()["w0"].devices == 8


async def test_a_run_that_has_ended_and_whose_deletion_nobody_told_is_found() -> None:
    books = await begun()
    books.keeper.observe_owner(books.owner, gone=False)
    books.end("w0")
    await books.note()
    books.keeper.forget(books.owner.uid)
    await tended(books)
    books.keeper.observe_owner(books.owner, gone=False)  # the watch lists it again
    assert not books.keeper.kept
    books.clock.advance(UNTOLD_SECONDS)
    await books.sweeper.sweep()
    await tended(books)
    assert not books.records()["uid-1-0"].completed and not books.keeper.kept, "it is there"
    books.cluster.bury(TRAINING_RUN, NAME)
    for seconds, over in ((UNTOLD_SECONDS - 61, False), (1, True)):
        books.clock.advance(seconds)
        await books.sweeper.sweep()
        await tended(books, 0)
        assert books.records()["uid-1-0"].completed == over
    assert not books.keeper.kept


async def test_a_run_that_nobody_may_see_any_more_is_taken_to_be_there() -> None:
    books = await begun()
    books.end("w0")
    await books.note()
    books.begin()
    books.keeper.observe_owner(books.owner, gone=False)
    books.clock.advance(UNTOLD_SECONDS)
    books.cluster.refuse["get", TRAINING_RUN] = RequestForbidden("not a namespace of ours any more", 403)
    await books.sweeper.sweep()
    await tended(books)
    assert not books.records()["uid-1-0"].completed and not books.keeper.kept
