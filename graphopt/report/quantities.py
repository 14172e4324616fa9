"""Numbers as text: three digits and a unit, wherever they are told."""

from __future__ import annotations

import math

_PREFIXES = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
_BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def count(value: float) -> str:
    """Return a count in three digits: 11.7 M, 950, 64.2 k."""
    for factor, prefix in _PREFIXES:
        if value >= factor:
            return f"{digits(value / factor)}{prefix}"
    return f"{value:.0f}"


def digits(value: float) -> str:
    """Return three significant digits without an exponent where that reads well."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 5)}f}"


def size(nbytes: float) -> str:
    """Return bytes in the binary unit that suits them: 44.6 MiB."""
    unit = 0
    while nbytes >= 1024 and unit < len(_BYTES) - 1:
        nbytes, unit = nbytes / 1024, unit + 1
    return f"{nbytes:.0f} bytes" if unit == 0 else f"{nbytes:.1f} {_BYTES[unit]}"


def quantity(value: float | None, unit: str) -> str:
    """Return a number with its unit; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "bytes":
        return size(value)
    return f"{digits(value)} {unit}".rstrip()


def interval(low: float, high: float, unit: str) -> str:
    """Return "9.80 to 16.0 ms"."""
    shortened = size(low) if unit == "bytes" else digits(low)
    return f"{shortened} to {quantity(high, unit)}"


def change(before: float, after: float) -> str:
    """Return the relative change in percent: "-81 %"; empty where there is no sense in one."""
    if not (math.isfinite(before) and math.isfinite(after)) or before == 0:
        return ""
    percent = 100 * (after - before) / before
    if abs(percent) < 0.5:
        return "same" if after == before else f"{percent:+.1f} %"
    return f"{percent:+.0f} %"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """Return "1 node", "2 nodes"; ``many`` is a plural that is not formed with an s."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"
