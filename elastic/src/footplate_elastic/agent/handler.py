"""Entry point `footplate` of group `torchrun.handlers`.

torch loads this module while it is itself being imported, so importing torch
here would end as a mere warning and an unknown backend. Entry points take no
arguments and return the creator.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters


def creator() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """What torch's registry calls with the parameters of a launch."""
    return create


def create(parameters: RendezvousParameters) -> RendezvousHandler:
    """A handler for plain torchrun: the session is configured by the environment alone."""
    from footplate_elastic.agent.config import from_environment
    from footplate_elastic.agent.rendezvous import FootplateRendezvous
    from footplate_elastic.agent.session import Session

    config = from_environment(os.environ)
    session = Session(config.identity, config.endpoint, total_steps=None)
    session.start()
    return FootplateRendezvous(session, parameters.run_id)
