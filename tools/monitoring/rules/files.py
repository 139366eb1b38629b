"""The rule files of the chart, as Prometheus and promtool read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import yaml
from tools.monitoring.rules import alerts, recording

HEADER: Final = "# Generated from tools/monitoring/rules by `make gen`; edited by nobody.\n"


class Rule(Protocol):
    """Of either kind."""

    def rule(self) -> Mapping[str, Any]:
        """As Prometheus reads it."""


class _Lines(yaml.SafeDumper):
    """Writes a text of several lines as such, so that an expression can be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)


def text(groups: Mapping[str, Iterable[Rule]]) -> str:
    """A rule file with `groups`."""
    found = [
        {"name": name, "rules": [dict(known.rule()) for known in rules]} for name, rules in groups.items()
    ]
    return HEADER + yaml.dump(
        {"groups": found}, Dumper=_Lines, sort_keys=False, width=110, allow_unicode=True
    )


def all_files() -> dict[str, str]:
    """By name."""
    return {"recording.yaml": text(recording.GROUPS), "alerts.yaml": text(alerts.GROUPS)}
