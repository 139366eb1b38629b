"""Collective journal writes, which propagate one rank's error or stop to all during a rollout.

A rank that raises alone leaves the others in a collective until its timeout, half an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from footplate_trainer.errors import TrainerError
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.journal_records import Record


def flush_journals(journal: Journal, world: DistributedContext, error: TrainerError | None = None) -> None:
    """Flush the journal, and raise on every rank any rank's error. Collective.

    That is `error`, or a StorageError if a rank's journal cannot be written.
    """
    try:
        journal.flush()
    except TrainerError as failed:
        error = error or failed
    object_collectives.raise_first(error, world.everybody)


def journal_batches(
    batches: Iterable[Sequence[Record]],
    add: Callable[[Sequence[Record]], None],
    journal: Journal,
    world: DistributedContext,
    stopping: Callable[[], bool],
) -> bool:
    """Journal each of `batches` as it is computed, and `add` all ranks' records on every rank.

    Returns False if any rank's `stopping` returned True, which is called after each batch. Collective, as
    computing a batch may be, and all ranks have equally many. Raises StorageError, on every rank, if one
    cannot write its journal.
    """
    stopped = False
    for records in batches:
        journal.add(records)
        for theirs, stops in object_collectives.all_gather((list(records), stopping()), world.everybody):
            add(theirs)
            stopped = stopped or stops
        if stopped:
            break
    flush_journals(journal, world)
    return not stopped
