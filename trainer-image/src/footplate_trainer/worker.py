"""`python -m footplate_trainer.worker`: the main process of a worker pod, an agent whose ranks train.

It imports next to nothing itself: the agent first starts the process that imports
torch, and registers with the coordinator meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from footplate_elastic.agent.process import main

if TYPE_CHECKING:
    from footplate_contracts.failures import FailureReport
    from footplate_elastic.protocol.outline import RunOutline

ENTRY: Final = "footplate_trainer.stages.programs:run_rank"
WARM: Final = ("torch", "footplate_trainer.warm")


def data_failure(outline: RunOutline) -> FailureReport | None:
    """Return the failure report if a run's data cannot be trained on, else None.

    Ranks would find the same, after many seconds of imports and of waiting for all members.
    """
    from footplate_trainer.data.check import check_run
    from footplate_trainer.errors import DataError
    from footplate_trainer.failure_reports import failure_report

    data = outline.data
    try:
        check_run(data.uris, data.tokenizer.uri if data.tokenizer else None)
    except DataError as error:
        return failure_report(error, rank=None, step=None, now=time.time())
    return None


if __name__ == "__main__":
    main(ENTRY, WARM, data_failure)
