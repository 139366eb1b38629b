"""Everything that can go wrong in a way a developer can act on.

ClusterError            shown as one line by the command line, never as a traceback
├── CommandFailed       a program we ran: its command line and the last lines of its output
├── NotReady            something we started did not answer in time: where its log is
└── Unsupported         this machine cannot do it: what would be needed
"""


class ClusterError(Exception):
    """The message is for a person and says what to do next."""


class CommandFailed(ClusterError):
    """A program we ran ended with an error."""


class NotReady(ClusterError):
    """Something we started did not become ready in time."""


class Unsupported(ClusterError):
    """The machine lacks something that this backend cannot do without."""
