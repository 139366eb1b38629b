"""Decides what should exist for a run, in one pure function.

No code here reads a clock, a cluster or the network: the same arguments give the
same answer, so any state of a run can be written down as a test.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from footplate_contracts.names import Phase
from footplate_operator.runtime.kinds import REVISION
from footplate_operator.trainingrun.desired.active import decide_active
from footplate_operator.trainingrun.desired.assessment import assess
from footplate_operator.trainingrun.desired.decision import RunDecision, soonest
from footplate_operator.trainingrun.desired.inactive import (
    decide_ended,
    decide_queued,
    decide_refused_revision,
    decide_suspended,
    decide_unknown_credentials,
    decide_unknown_revision,
    decide_waiting,
)
from footplate_operator.trainingrun.desired.run_end import decide_release, fail, succeed, suspend
from footplate_operator.trainingrun.observation import Observed
from footplate_operator.trainingrun.policies import suspension
from footplate_operator.trainingrun.revision import AnyRevision, MissingRevision, Revision
from footplate_operator.trainingrun.run import Run


def decide(
    run: Run, revision: AnyRevision | MissingRevision | None, observed: Observed, now: datetime
) -> RunDecision:
    """Decide what should exist for `run`, and what its status should say.

    Args:
        run: the run with the status written last.
        revision: the revision of its pods, readable, unreadable or missing; None if it could not be admitted.
        observed: the observed state.
    """
    desired = _decide(run, revision, observed, now)
    look_after = observed.spending.look_after if observed.spending is not None else None
    return replace(desired, requeue_after=soonest(desired.requeue_after, look_after))


def _decide(
    run: Run, revision: AnyRevision | MissingRevision | None, observed: Observed, now: datetime
) -> RunDecision:
    if run.ended is not None:
        return decide_ended(run, run.ended, observed, now)
    if (asked := suspension.find_suspension(run, observed.spending)) is not None and not run.has_gang:
        return decide_suspended(run, asked, observed, now)
    if revision is None:
        return decide_queued(run, observed, now)
    if not isinstance(revision, Revision):
        return decide_unknown_revision(run, revision, observed, now)
    if observed.credentials is None:
        return decide_unknown_credentials(run, observed, now)
    if not run.has_gang and not observed.turn.granted:
        return decide_waiting(run, observed, now)
    situation = assess(run, revision, observed, now)
    if situation.finished:
        return succeed(situation)
    if situation.failure is not None:
        return fail(situation, situation.failure)
    if run.phase is Phase.SUSPENDING or asked is not None or situation.closed:
        return suspend(situation, asked or suspension.BY_HAND)
    if not run.has_gang and observed.hindered and not observed.has(REVISION, revision.name(run.name)):
        return decide_refused_revision(run, observed, now)
    return (
        decide_active(situation)
        if situation.release is None
        else decide_release(situation, situation.release)
    )
