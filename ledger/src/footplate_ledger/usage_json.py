"""JSON of usage, exact: the fields of its dataclasses by name, numbers that are no integers as fractions.

Fields that a later release adds are ignored; a field that is missing has its default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from types import NoneType
from typing import Any, Final, TypeVar, get_args, get_type_hints

from footplate_ledger.units import Amount
from footplate_ledger.usage import MeasuredEnergy, NodeLifetime, PodAllocation, PowerProfile

Record = TypeVar("Record", PodAllocation, NodeLifetime, PowerProfile, MeasuredEnergy)
_NUL: Final = "\\u0000"  # in JSON
_CACHED: Final = 4096  # the same few prices, owners and numbers come hundreds of thousands of times


def encode(used: PodAllocation | NodeLifetime) -> str:
    """Return `used` as JSON; ValueError for a text that no database stores."""
    plain = _plain(used)
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
    text.encode()
    if _NUL in text and any("\0" in part for part in _texts(plain)):
        raise ValueError("a text has a character that databases do not accept")
    return text


def decode_pod(text: str) -> PodAllocation:
    """Return the pod's usage from its JSON."""
    return read_fields(PodAllocation, json.loads(text))


def decode_node(text: str) -> NodeLifetime:
    """Return the node's usage from its JSON."""
    return read_fields(NodeLifetime, json.loads(text))


def read_fields(kind: type[Record], plain: Mapping[str, Any]) -> Record:
    """Return a `kind` of fields as they are in JSON."""
    built: Record = _DECODERS[kind](plain)
    return built


def _plain(value: Any) -> Any:
    if value is None or type(value) in (int, str):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Amount):
        value = value.exact
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else str(value)
    found = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: _plain(part) for name, part in found if part is not None}


def _texts(plain: Any) -> Iterator[str]:
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict):
        for part in plain.values():
            yield from _texts(part)


def _fields_decoder(kind: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return the function that builds a dataclass from the JSON of its fields."""
    hints = get_type_hints(kind)
    decoders = {name: found for name, hint in hints.items() if (found := _value_decoder(hint)) is not None}

    def decode(plain: Mapping[str, Any]) -> Any:
        return kind(
            **{
                name: decoders[name](part) if name in decoders else part
                for name, part in plain.items()
                if name in hints
            }
        )

    return decode


def _value_decoder(hint: Any) -> Callable[[Any], Any] | None:
    """Return the function that converts JSON to a value of this type; None where it is that value."""
    [kind] = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    if issubclass(kind, Amount):
        return lru_cache(_CACHED)(lambda number: kind(Fraction(number)))
    if issubclass(kind, (Fraction, Enum)):
        return lru_cache(_CACHED)(kind)
    if issubclass(kind, (int, str)):
        return None
    decode = _fields_decoder(kind)
    cached = lru_cache(_CACHED)(lambda items: decode(dict(items)))
    return lambda plain: cached(tuple(plain.items()))


_DECODERS: Final = {
    kind: _fields_decoder(kind) for kind in (PodAllocation, NodeLifetime, PowerProfile, MeasuredEnergy)
}
