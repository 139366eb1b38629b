"""Sanitizes a coordinator's report: drops the fields that a status cannot hold.

A coordinator reports what ranks and agents sent it, and all of them are programs of the run's owner. None of
their values may keep the run from being reconciled, so the operator bounds them before it decides
anything upon them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from footplate_contracts.coordinator_state import CoordinatorState, MissedAgent, NumberedFailure, Progress
from footplate_contracts.failures import REASON_LIMIT
from footplate_contracts.names import Cause
from footplate_contracts.rendezvous import AgentIdentity
from footplate_contracts.reports import CheckpointRecord, DroppedTelemetry, GenerationId
from footplate_contracts.v1alpha1.types import CHECKPOINT_URI_LIMIT, MOST_WHOLE

MOST: Final = 1_000_000_000  # of what is counted, and of seconds: sums over many coordinators fit as well
_YEAR_10000: Final = 253_402_300_800  # seconds since the Unix epoch
_EXIT_CODES: Final = 1 << 31  # either way
_CAUSES: Final = frozenset(cause.value for cause in Cause)
_MOST_CAUSES: Final = 16
_NOTHING: Final = DroppedTelemetry()

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class SanitizedState:
    """Sanitized report of a coordinator, and the names of the fields from which something was dropped."""

    state: CoordinatorState
    passed_over: tuple[str, ...] = ()


def sanitize_state(said: CoordinatorState) -> SanitizedState:
    """Return the report `said` without the values that a status cannot hold."""
    if not _fits(said.epoch):
        return SanitizedState(CoordinatorState.empty(), ("epoch",))
    update = {
        "generation": _generation(said.generation),
        "members": [member for member in said.members if _is_agent(member.agent)],
        "missing": [index for index in said.missing if _fits(index)],
        "missed": [missed for missed in said.missed if _is_missed(missed)],
        "unreachable": [pair for pair in said.unreachable if _is_agent(pair.one) and _is_agent(pair.other)],
        "waiting": [agent for agent in said.waiting if _is_agent(agent)],
        "progress": _progress(said.progress),
        "start_step": _or_none(said.start_step),
        "checkpoint": _checkpoint(said.checkpoint),
        "checkpoint_steps": [step for step in said.checkpoint_steps if _fits(step)],
        "failures": [_failure(failure) for failure in said.failures if _fits(failure.number)],
        "failures_by_cause": _by_cause(said.failures_by_cause),
        "given_up": _given_up(said.given_up),
    }
    passed_over = tuple(name for name, counts in update.items() if counts != getattr(said, name))
    return SanitizedState(said.model_copy(update=update) if passed_over else said, passed_over)


def _fits(number: float, most: float = MOST_WHOLE) -> bool:
    """Return whether `number` is from 0 to `most`; NaN is not."""
    return 0 <= number <= most


def _or_none(number: Number | None, most: float = MOST_WHOLE) -> Number | None:
    return number if number is not None and _fits(number, most) else None


def _generation(generation: GenerationId | None) -> GenerationId | None:
    fits = generation is not None and _fits(generation.epoch) and _fits(generation.number)
    return generation if fits else None


def _is_agent(agent: AgentIdentity) -> bool:
    return all(_fits(number, MOST) for number in (agent.index, agent.incarnation, agent.local_world_size))


def _is_missed(missed: MissedAgent) -> bool:
    return _is_agent(missed.agent) and _fits(missed.seconds, MOST)


def _progress(progress: Progress) -> Progress:
    """Return empty progress if one of its counts is invalid; drop an invalid speed."""
    counts = (progress.step, progress.total_steps, progress.tokens, progress.finished or 0)
    if not all(_fits(count) for count in counts):
        return Progress()
    speed = _or_none(progress.step_seconds, MOST)
    if speed is not None and not _fits(speed * max(0, progress.total_steps - progress.step)):
        speed = None
    return progress if speed == progress.step_seconds else progress.model_copy(update={"step_seconds": speed})


def _checkpoint(record: CheckpointRecord | None) -> CheckpointRecord | None:
    if record is None or not (_fits(record.step) and 0 <= record.time < _YEAR_10000):
        return None
    if not 0 < len(record.uri) <= CHECKPOINT_URI_LIMIT:
        return None
    update: dict[str, object] = {}
    if not _fits(record.seconds_blocked, MOST):
        update["seconds_blocked"] = 0.0
    if not all(_fits(found.step) and _generation(found.generation) for found in record.standing or ()):
        update["standing"] = None
    return record.model_copy(update=update) if update else record


def _failure(numbered: NumberedFailure) -> NumberedFailure:
    """Return the failure without its invalid fields: it counts in any case."""
    failure, agent = numbered.failure, numbered.agent
    code = failure.exit_code
    cleaned = failure.model_copy(
        update={
            "rank": _or_none(failure.rank),
            "exit_code": code if code is not None and abs(code) < _EXIT_CODES else None,
            "step": _or_none(failure.step),
        }
    )
    known = agent if _is_agent(agent) else agent.model_copy(update={"index": 0, "incarnation": 0})
    cleaned_numbered = numbered.model_copy(
        update={
            "failure": cleaned,
            "agent": known,
            "generation": _generation(numbered.generation),
            "checkpoint_step": _or_none(numbered.checkpoint_step),
        }
    )
    return numbered if cleaned_numbered == numbered else cleaned_numbered


def _by_cause(counts: dict[str, int]) -> dict[str, int]:
    """Return as many causes as a status holds; causes of a newer release come last."""
    fit = [cause for cause, count in counts.items() if len(cause) <= REASON_LIMIT and _fits(count, MOST)]
    fit.sort(key=lambda cause: (cause not in _CAUSES, cause))
    return {cause: counts[cause] for cause in fit[:_MOST_CAUSES]}


def _given_up(told: DroppedTelemetry) -> DroppedTelemetry:
    return told if _fits(told.refused, MOST) and _fits(told.overflowed, MOST) else _NOTHING
