"""torch's rendezvous handler on top of a session."""

from __future__ import annotations

import logging
import os
import time
from datetime import timedelta

from torch.distributed import (  # type: ignore[attr-defined]  # TCPStore is re-exported without saying so
    DistError,
    TCPStore,
)
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
)

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Env, Reason
from footplate_contracts.rendezvous import Member, SealedGeneration
from footplate_elastic.agent import timing
from footplate_elastic.agent.errors import RunOver, SlotTaken
from footplate_elastic.agent.session import Session

_log = logging.getLogger(__name__)


class FootplateRendezvous(RendezvousHandler):
    """Rendezvous through `session`; one thread, except for the cached flags."""

    def __init__(self, session: Session, run_id: str) -> None:
        self._session = session
        self._run_id = run_id
        self._closed = False
        # Kept until the next join, so that one that does not train can try whether it reaches us.
        self._own_store: TCPStore | None = None

    def get_backend(self) -> str:
        """Return the name that torch's logs show."""
        return "footplate"

    def get_run_id(self) -> str:
        """Return the run's uid."""
        return self._run_id

    @property
    def use_agent_store(self) -> bool:
        """True: ranks use the group's store instead of opening another one."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait for the next generation and reach its store; raises RendezvousClosedError at the end."""
        while True:
            # First the store, then the join that tells its port: no "address in use", no second round trip.
            store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
            self._own_store = store
            _log.info("ready for a generation")
            try:
                sealed = self._session.join(store.port)
            except (SlotTaken, RunOver) as end:
                self._closed = True
                raise RendezvousClosedError(str(end)) from end
            host, own = sealed.members[0], _own_seat(sealed, self._session.identity.index)
            address = host.agent.address
            if own.group_rank != host.group_rank:
                try:
                    store = _reach(address, host.store_port)
                except DistError as error:
                    self._session.set_failure(_unreachable(host, error))
                    continue
            os.environ[Env.GENERATION] = str(sealed.generation)
            info = RendezvousStoreInfo(address, host.store_port)
            return RendezvousInfo(store, own.group_rank, len(sealed.members), info)

    def num_nodes_waiting(self) -> int:
        """Return 1 when the ranks must stop and join again; a cached flag."""
        return int(self._session.must_rejoin())

    def is_closed(self) -> bool:
        """Return whether the run is over; a cached flag."""
        return self._closed or self._session.view.closed

    def set_closed(self) -> None:
        """Report that the ranks here are done; the coordinator closes the run once all are."""
        self._session.report_end(suspended=False)

    def shutdown(self) -> bool:
        """Leave the run, this member only."""
        self._session.leave()
        return True


def _own_seat(sealed: SealedGeneration, index: int) -> Member:
    return next(member for member in sealed.members if member.agent.index == index)


def _reach(address: str, port: int) -> TCPStore:
    timeout = timedelta(seconds=timing.STORE)
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timeout)
    store.set_timeout(timedelta(seconds=60))
    return store


def _unreachable(host: Member, error: Exception) -> FailureReport:
    return FailureReport(
        cause=Cause.COMMUNICATION,
        reason=Reason.PEER_LOST,
        message=f"the store of {host.agent.pod_name} cannot be reached: {error}"[:1024],
        time=time.time(),
    )
