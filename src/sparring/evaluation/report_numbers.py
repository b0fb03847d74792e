"""Numbers as a report writes them."""

import math

import numpy as np
from jaxtyping import Float

THIN = "\u202f"
"""A narrow space that does not break, between a number and its unit."""


def percent(share: float) -> str:
    """A share from 0 to 1 as `43.1 %`; only a true none or all reads `0 %` or `100 %`."""
    if share in (0, 1):
        return f"{100 * share:.0f}{THIN}%"
    for digits in (1, 2, 3):
        text = f"{100 * share:.{digits}f}"
        if float(text) not in (0, 100):
            break
    return f"{text}{THIN}%"


def span(low: float, high: float) -> str:
    """Two shares, the ends of an interval, as `40.0–46.2 %`."""
    return f"{percent(low).removesuffix(f'{THIN}%')}–{percent(high)}"


def quantity(number: float) -> str:
    """A count as `1,234` or `46.8 M`; a mean below a thousand keeps one decimal."""
    if number >= 1e6:
        power, unit = (1e9, "G") if number >= 1e9 else (1e6, "M")
        return f"{number / power:.1f}{THIN}{unit}"
    return f"{number:,.0f}" if number >= 1000 or number == int(number) else f"{number:,.1f}"


def duration(seconds: float) -> str:
    """A time as `3 ms`, `4.2 s`, `3 min 5 s` or `2 h 5 min`."""
    if seconds == 0:
        return f"0{THIN}s"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g}{THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def distance(size: float, *, grey: bool = False) -> str:
    """The size of a change in three digits; in grey levels, as `8/255`, where asked for or where it is whole ones."""
    if not math.isfinite(size):
        return "none found"
    if size and (grey or whole_levels(size)):
        return f"{255 * size:.3g}/255"
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"


def whole_levels(size: float) -> bool:
    """Whether a size was surely meant in grey levels, such as 8/255: a whole number of them, and no round decimal."""
    levels = 255 * size
    return 0 < size < 1 and abs(levels - round(levels)) < 1e-4 and abs(size - round(size, 2)) > 1e-6


def plural(number: int, noun: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def median(distances: Float[np.ndarray, " r"]) -> float:
    """The distance that suffices for half of the samples, infinite where fewer than half broke."""
    ordered = np.sort(distances)
    return float(ordered[(len(ordered) - 1) // 2]) if len(ordered) else math.nan


def median_interval(distances: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """The 95 % interval of the median, from the ranks that a fair coin reaches (normal approximation)."""
    ordered, half = np.sort(distances), 0.98 * len(distances) ** 0.5
    middle = (len(ordered) - 1) / 2
    low, high = max(0, math.floor(middle - half)), min(len(ordered) - 1, math.ceil(middle + half))
    return float(ordered[low]), float(ordered[high])


def quantiles(distances: Float[np.ndarray, " r"]) -> list[tuple[str, float]]:
    """For some shares of the samples, the distance that suffices for so many."""
    ordered = np.sort(distances)
    if len(ordered) == 0:
        return []
    shares = (0.1, 0.25, 0.5, 0.75, 0.9)
    return [(f"{100 * share:.0f}{THIN}%", float(ordered[math.ceil(share * len(ordered)) - 1])) for share in shares]


def outcome(passed: bool | None) -> str:
    """One word for what became of a check."""
    return "idle" if passed is None else "passed" if passed else "failed"
