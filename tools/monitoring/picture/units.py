"""Numbers as a panel shows them, by their unit; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

_THOUSANDS: Final = ("", "K", "M", "G", "T", "P")
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))  # seconds


def shown(value: float, unit: str, now: float = 0.0) -> str:
    """`value` in words; points in time are told from `now`, Unix seconds. An unknown unit is none."""
    if unit == "dateTimeFromNow":
        left = value / 1000 - now
        return f"in {_time(left)}" if left >= 0 else f"{_time(-left)} ago"
    return _SHOWN.get(unit, _plain)(value)


def _digits(value: float) -> str:
    """Three digits that count, without zeros that do not."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text if "e" in text or "." not in text else text.rstrip("0").rstrip(".")


def _scaled(value: float, base: int, names: tuple[str, ...]) -> tuple[str, str]:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return _digits(value), names[power]


def _plain(value: float) -> str:
    return _digits(value)


def _short(value: float) -> str:
    return " ".join(_scaled(value, 1000, _THOUSANDS)).strip()


def _si(symbol: str) -> Callable[[float], str]:
    def text(value: float) -> str:
        number, prefix = _scaled(value, 1000, _THOUSANDS)
        return f"{number} {prefix.replace('K', 'k')}{symbol}"

    return text


def _time(seconds: float) -> str:
    for size, name in _TIMES:
        if abs(seconds) >= size:
            return f"{_digits(seconds / size)} {name}"
    return "0 s"


_SHOWN: Final[Mapping[str, Callable[[float], str]]] = {
    "none": _plain,
    "short": _short,
    "percentunit": lambda value: f"{_digits(value * 100)} %",
    "s": _time,
    "bytes": lambda value: " ".join(_scaled(value, 1024, _BYTES)),
    "currencyUSD": lambda value: f"${''.join(_scaled(value, 1000, _THOUSANDS))}",
    "watt": _si("W"),
    "kwatth": lambda value: _si("Wh")(value * 1000),
    "massg": _si("g"),
    "celsius": lambda value: f"{_digits(value)} °C",
    "cps": lambda value: f"{_short(value)}/s",
    "reqps": lambda value: f"{_short(value)}/s",
}
