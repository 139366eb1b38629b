"""Who listens to a rank."""

from __future__ import annotations

from footplate_contracts.reports import Command
from footplate_elastic.protocol.link import StandaloneLink, open_link


def test_alone_every_commit_is_granted_and_no_command_comes() -> None:
    link = open_link({})

    assert isinstance(link, StandaloneLink)
    assert link.grant(5)
    assert link.command() is Command.NONE
    assert link.terms() is None
