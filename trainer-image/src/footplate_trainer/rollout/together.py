"""What ranks keep of a rollout, so that an error or a suspension on one of them is heard by all.

A rank that raises alone leaves the others in a collective until that is given up, after half an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from footplate_trainer.errors import TrainerError
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.world import World
from footplate_trainer.rollout.journal import Journal
from footplate_trainer.rollout.records import Record


def durable(journal: Journal, world: World, error: TrainerError | None = None) -> None:
    """Wait for the journal, and raise on every rank what one has met. Collective.

    That is `error`, or a StorageError where its journal cannot be written.
    """
    try:
        journal.flush()
    except TrainerError as failed:
        error = error or failed
    agree.raise_first(error, world.everybody)


def keep_each(
    batches: Iterable[Sequence[Record]],
    add: Callable[[Sequence[Record]], None],
    journal: Journal,
    world: World,
    stopping: Callable[[], bool],
) -> bool:
    """Have `batches` made one after another, and what each of them brings kept, and added on all ranks.

    Whether nobody was `stopping`, which is asked behind each. Collective, as making one may be, and all ranks
    have as many. StorageError, on every rank, where one cannot write its journal.
    """
    stopped = False
    for records in batches:
        journal.add(records)
        for theirs, stops in agree.gather((list(records), stopping()), world.everybody):
            add(theirs)
            stopped = stopped or stops
        if stopped:
            break
    durable(journal, world)
    return not stopped
