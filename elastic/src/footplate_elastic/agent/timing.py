"""Timeouts of an agent in seconds: for its ranks, for the coordinator, and at its end.

Three rules determine the numbers. All members wait for the slowest one to join again, so ranks are gone
within a second whatever they do. A coordinator may be replaced at any moment and a dead one answers with
silence, so no request waits long for its answer; it is retried, at first at once and then once a second,
which a thousand agents may do. And a pod has a grace period of 30 s by default, within which an agent sends
its remaining data and leaves.
"""

from __future__ import annotations

from typing import Final

# -- ranks -----------------------------------------------------------------------------

LOOK: Final = 0.25  # between two looks at the ranks, at the latest: every change wakes the loop
GRACE: Final = 0.5  # from SIGTERM to SIGKILL: one that is blocked in a collective runs no signal handler
LAST_LINES: Final = 2.0  # for what an ended rank wrote into its pipes; its children may hold them open
ECHO: Final = 0.2  # for the end of the rank to which another one says that it lost its connection
DRAIN: Final = 2.0  # for what ranks that have ended well said over their sockets
ZYGOTE_PAUSE: Final = 0.5  # before another zygote follows one that was killed; doubles
LONGEST_ZYGOTE_PAUSE: Final = 8.0  # whoever wants its memory back needs a moment
PROBE: Final = 2.0  # for a peer's port: a packet that is lost comes again after a second
STORE: Final = 2.0  # for the store of a generation: a dead one answers with silence, and so is the generation

# -- the coordinator -------------------------------------------------------------------

CONNECT: Final = 1.0  # a connection within a cluster takes a millisecond, or an address that is gone
ANSWER: Final = 5.0  # one that takes longer, beyond what a long-poll asks for, is asked again
FIRST_PAUSE: Final = 0.05  # before a question that got no answer is put again; doubles
LONGEST_PAUSE: Final = 1.0
NEWS: Final = 0.2  # between two reports of steps; what is urgent goes at once

# -- energy ----------------------------------------------------------------------------

SAMPLE: Final = 10.0  # between two looks at the devices: counters lose nothing between them
LAST_SAMPLE: Final = 0.5  # for one more look at an end; it takes milliseconds, or the driver hangs

# -- the end ---------------------------------------------------------------------------

ALL_TOLD: Final = 5.0  # the end of ranks is told after their last rows, or so late where nobody takes these
HAND_OVER: Final = 10.0  # for the coordinator to take all telemetry of a run that ended well
HEARING: Final = 30.0  # for a coordinator to hear why we failed: it may start later than we fail
UNANSWERED: Final = (
    6.0  # for the successor of a coordinator that was drained with us, before we leave unsaved
)
GOODBYE_FIRST: Final = (
    1.0  # before ranks are stopped, or those of others would tell first that they lost ours
)
FAREWELL: Final = 0.5  # for the goodbye itself
