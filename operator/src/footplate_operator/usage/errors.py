"""Handles errors of usage writes: none of them stops training, or the records of another owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from footplate_operator.errors import ClusterError, LeadershipLost
from footplate_operator.usage.records import OwnerMismatch


@contextmanager
def record_errors(record: Callable[[Exception, bool], None]) -> Iterator[None]:
    """Pass errors to `record` instead of raising them, with True if the cluster explains them.

    LeadershipLost is raised: this replica may write no more.
    """
    try:
        yield
    except LeadershipLost:
        raise
    except (ClusterError, TimeoutError, OwnerMismatch) as error:
        record(error, True)
    except Exception as error:  # noqa: BLE001 - a bug in one owner's records must not stop the other owners
        record(error, False)
