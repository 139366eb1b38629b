"""Pods of untracked owners: not reported yet, deleted, or nonexistent.

A pod names its owner itself, and whoever may create pods may name any: text that is no uid, or the uid of a
run in another namespace. So nothing is read or recorded for an owner that cannot exist, and a uid belongs to
the object that was reported with it.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_ledger.usage import Owner
from footplate_operator.usage.owner_records import OwnerRecords
from footplate_operator.usage.records import PodRecords

# As it can be a label's value, and part of the name of a record.
_LABEL: Final = re.compile("[0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?")
_NAME: Final = re.compile("[0-9a-z]([0-9a-z.-]{0,251}[0-9a-z])?")
_TAKEN: Final = "its uid belongs to another object"
_log = logging.getLogger(__name__)


def find_owner_problem(owner: Owner, kinds: Collection[str]) -> str:
    """Return why there can be no such owner; empty where there can. `kinds`: names of owners' kinds."""
    if owner.kind not in kinds:
        return f"kind is {owner.kind!r:.100}, but must be one of {', '.join(sorted(kinds))}"
    if not _LABEL.fullmatch(owner.uid):
        return f"uid is {owner.uid!r:.100}, but must consist of digits, lowercase letters and hyphens"
    if not _LABEL.fullmatch(owner.namespace):
        return f"namespace is {owner.namespace!r:.100}, but must be a namespace's name"
    if not _NAME.fullmatch(owner.name):
        return f"name is {owner.name!r:.100}, but must be an object's name"
    return ""


@dataclass(eq=False)
class Orphans:
    """Owners named by pods only. `kinds`: names of owners' kinds; `there`: reported owners, by uid.

    Beyond `most` owners only those that are `there` are stored.
    """

    kinds: Collection[str]
    there: Mapping[str, Owner]
    most: int = 1_000
    _kept: OrderedDict[Owner, OwnerRecords] = field(default_factory=OrderedDict)
    _refused: OrderedDict[Owner, None] = field(default_factory=OrderedDict)

    def find_or_create(self, owner: Owner, known: OwnerRecords | None = None) -> OwnerRecords | None:
        """Return the state of an owner that a pod names; None: there is no such owner.

        `known`: the tracked owner with its uid.
        """
        if known is not None and known.owner == owner:
            return known
        if owner in self._refused:
            return None
        if owner not in self._kept:
            said = find_owner_problem(owner, self.kinds)
            if said or known is not None or self.there.get(owner.uid, owner) != owner:
                self.refuse(owner, said or _TAKEN)
                return None
            self._kept[owner] = OwnerRecords(PodRecords(owner))
            self._shrink()
        return self._kept[owner]

    def pop(self, owner: Owner) -> OwnerRecords:
        """Remove and return the state of an owner, which is tracked from now on."""
        return self._kept.pop(owner, None) or OwnerRecords(PodRecords(owner))

    def list_gone_owners(self, kept: Collection[str] = ()) -> list[Owner]:
        """Return the owners that are not there, once all were reported; `kept`: uids of tracked owners."""
        for owner in list(self._kept):
            if owner.uid in kept or self.there.get(owner.uid, owner) != owner:
                self.refuse(owner, _TAKEN)
        return [owner for owner in self._kept if owner.uid not in self.there]

    def refuse(self, owner: Owner, why: str) -> None:
        """Ignore pods that name this owner; the log has it once."""
        self._kept.pop(owner, None)
        if owner in self._refused:
            return
        self._refused[owner] = None
        if len(self._refused) > self.most:
            self._refused.popitem(last=False)
        about = log_fields(namespace=owner.namespace, name=owner.name[:253], why=why)
        _log.warning("not recording pods whose owner is invalid", extra=about)

    def _shrink(self) -> None:
        """Evict the oldest owner that is not there, if there are too many."""
        if len(self._kept) <= self.most:
            return
        oldest = next((owner for owner in self._kept if owner.uid not in self.there), None)
        if oldest is not None:
            del self._kept[oldest]
            about = log_fields(namespace=oldest.namespace, name=oldest.name, uid=oldest.uid)
            _log.warning("dropping pods of an owner that was never listed", extra=about)
