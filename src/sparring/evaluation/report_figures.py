"""The figures of a report: small SVG drawings, coloured by the classes of its stylesheet.

Every word goes through `Markup.format`, which escapes it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from sparring.evaluation.report_numbers import THIN, median, percent, span
from sparring.evaluation.report_view import AttackLine, Proportion, View

Scalars = TypeVar("Scalars", float, Float[np.ndarray, " m"])

SIZES = {"wide": 720, "narrow": 342}
"""Widths, in CSS pixels, at which a figure is drawn: letters keep their size, and the page shows the one that fits."""

HUES = 8
"""How many colours the stylesheet has for attacks; a longer plan begins again."""


def figure(draw: Callable[[View, int], Markup], view: View) -> Markup:
    """A drawing at each width; the stylesheet hides the others."""
    return _joined(Markup('<div class="{}">{}</div>').format(name, draw(view, width)) for name, width in SIZES.items())


def bracket(view: View, width: int) -> Markup:
    """Clean and robust accuracy from 0 to 100 %, each with its interval; the proven share where there is one."""
    top, thick, left, right = 34, 26, 0.5, width - 0.5

    def at(share: float) -> float:
        return left + share * (right - left)

    parts = [
        _bar(at(0), top, at(view.robust.value) - at(0), thick, "still"),
        _bar(at(view.robust.value), top, at(view.clean.value) - at(view.robust.value), thick, "lost"),
        _bar(at(view.clean.value), top, at(1) - at(view.clean.value), thick, "wrong"),
    ]
    if view.certified:
        parts.append(_bar(at(0), top + thick - 6, at(view.certified.value) - at(0), 6, "proven"))
        if view.robust.value - view.certified.value > 0.35:  # else the two labels would meet; the text names both
            said = f"proven {percent(view.certified.value)}"
            parts.append(_label(at, view.certified.value, top + thick + 27, said, width))
    parts += [_whisker(at, view.clean, top - 7), _whisker(at, view.robust, top + thick + 7)]
    parts.append(_label(at, view.clean.value, top - 18, f"clean {percent(view.clean.value)}", width))
    parts.append(_label(at, view.robust.value, top + thick + 27, f"under attack {percent(view.robust.value)}", width))
    base = top + thick + 42
    parts.append(_line(left, base, right, base, "axis"))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        parts.append(_line(at(tick), base, at(tick), base + 4, "axis"))
        parts.append(_text(at(tick), base + 17, f"{100 * tick:.0f}{THIN}%", "tick", anchor))
    words = (
        f"Bar from 0 to 100 %: clean accuracy {percent(view.clean.value)}, interval {view.clean.interval}; "
        f"accuracy under attack {percent(view.robust.value)}, interval {view.robust.interval}"
    )
    words += f"; proven {percent(view.certified.value)}." if view.certified else "."
    return _svg(width, base + 22, words, parts)


def stack(view: View, width: int) -> Markup:
    """All samples in one bar: wrong before any attack, broken by each attack in turn, standing."""
    whole = max(view.clean.of, 1)
    counts = [(view.robust.count, "still"), *((line.owned, hue(view, line)) for line in view.attacks)]
    counts += [(elsewhere(view), "lost"), (view.clean.of - view.clean.count, "wrong")]
    start, parts = 0.0, list[Markup]()
    for count, name in counts:
        length = count / whole * width
        parts.append(_bar(start, 0, length - (1.5 if length > 3 else 0), 22, name))
        start += length
    broke = ", ".join(f"{line.name} broke {line.owned}" for line in view.attacks)
    words = f"Of {view.clean.of}: {counts[-1][0]} were wrong before any attack; {broke}; {view.robust.count} stand."
    return _svg(width, 22, words, parts)


def curve(view: View, width: int) -> Markup:
    """Accuracy against the size of the change, with its interval; eps marked, or the median where there is none."""
    height, left, right, top, bottom = (320 if width > 500 else 260), 44, 14, 16, 44
    free = view.question.eps is None
    mark = median(view.distances) if free else float(view.question.eps or 0)
    end = 1.04 * _end(view, mark)

    def across(eps: Scalars) -> Scalars:
        return left + eps / end * (width - left - right)

    def down(share: Scalars) -> Scalars:
        return top + (1 - share) * (height - top - bottom)

    parts = [_text(left, height - 6, f"size of the change, {view.question.unit}", "tick", "start")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(left, down(share), width - right, down(share), "axis" if share == 0 else "grid"))
        parts.append(_text(left - 8, down(share) + 4, f"{100 * share:.0f}{THIN}%", "tick", "end"))
    for tick in ticks(end, 5 if width > 500 else 3, grey=view.question.grey):
        parts.append(_line(across(tick), down(0), across(tick), down(0) + 4, "axis"))
        parts.append(_text(across(tick), down(0) + 18, view.question.size(tick) if tick else "0", "tick", "middle"))

    shown = view.curve.eps <= end
    x = across(view.curve.eps[shown])
    y, low, high = (down(part[shown]) for part in (view.curve.accuracy, view.curve.low, view.curve.high))
    parts.append(Markup('<path class="band" d="{}L{}Z"/>').format(_steps(x, low), _steps(x, high, back=True)))
    parts.append(Markup('<path class="curve" d="{}"/>').format(_steps(x, y)))
    if math.isfinite(mark):
        text = f"median {view.question.size(mark)}" if free else f"eps {view.question.size(mark)}"
        parts.append(_line(across(mark), top, across(mark), down(0), "mark"))
        late = across(mark) > width / 2
        parts.append(_text(across(mark) + (-6 if late else 6), top + 4, text, "note", "end" if late else "start"))
    if not free:
        share = view.robust.value
        parts.append(Markup('<circle class="dot" cx="{}" cy="{}" r="4"/>').format(_n(across(mark)), _n(down(share))))
    words = (
        f"Accuracy falls from {percent(view.clean.value)} without change to {percent(view.robust.value)} at the end."
    )
    points = " ".join(
        f"{_n(a)},{_n(b)},{_n(100 * accuracy)},{view.question.size(float(eps)) if eps else '0'}"
        for a, b, eps, accuracy in zip(x, y, view.curve.eps, view.curve.accuracy, strict=False)
    )
    return _svg(width, height, words, parts, points)


def hue(view: View, line: AttackLine) -> str:
    """The colour of an attack, in the bar and in the table."""
    return f"hue{view.attacks.index(line) % HUES}"


def elsewhere(view: View) -> int:
    """How many samples fell to no attack of the plan, but on the way to the curve."""
    return view.clean.count - view.robust.count - sum(line.owned for line in view.attacks)


def table(view: View) -> list[tuple[str, str, str]]:
    """The curve at a few round sizes: size, share, interval."""
    eps = view.question.eps
    sizes = ticks(_end(view, median(view.distances) if eps is None else eps), 8, grey=view.question.grey)
    places = np.searchsorted(view.curve.eps, np.array(sizes) * (1 + 1e-6), side="right") - 1
    curve = view.curve
    return [
        (
            view.question.size(size) if size else "0",
            percent(float(curve.accuracy[at])),
            span(float(curve.low[at]), float(curve.high[at])),
        )
        for size, at in zip(sizes, places, strict=True)
    ]


def ticks(end: float, about: int, *, grey: bool = False) -> list[float]:
    """Round values from 0 up to `end`, about so many; multiples of a grey level, 1/255, where asked for."""
    scale = 255 if grey else 1.0
    rough = end * scale / about
    power = 10 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    if grey:
        step = max(1, 2 ** round(math.log2(rough)))
    return [index * step / scale for index in range(int(end * scale / step + 1e-9) + 1)]


def _end(view: View, mark: float) -> float:
    """The last size that the curve shows: all of it, but no more than three times eps or the median."""
    last = max(float(view.curve.eps[-1]) if len(view.curve.eps) else 0.0, 0.0 if math.isinf(mark) else mark)
    return (min(last, 3 * mark) if math.isfinite(mark) and mark > 0 else last) or 1.0


def _steps(x: Float[np.ndarray, " m"], y: Float[np.ndarray, " m"], *, back: bool = False) -> Markup:
    """A staircase through the points: level until the next one, then up or down."""
    if len(x) == 0:
        return Markup("M0,0")
    corners = [(x[0], y[0])]
    for index in range(1, len(x)):
        corners += [(x[index], y[index - 1]), (x[index], y[index])]
    points = [f"{_n(a)},{_n(b)}" for a, b in (corners[::-1] if back else corners)]
    return Markup(("" if back else "M") + "L".join(points))


def _whisker(at: Callable[[float], float], share: Proportion, y: float) -> Markup:
    low, high = at(share.low), at(share.high)
    ends = _joined(_line(end, y - 4, end, y + 4, "whisker") for end in (low, high))
    return _line(low, y, high, y, "whisker") + ends


def _label(at: Callable[[float], float], share: float, y: float, text: str, width: int) -> Markup:
    """Words centred on their share, or held inside the drawing near its ends."""
    x, half = at(share), 4.2 * len(text)
    anchor = "start" if x < half else "end" if x > width - half else "middle"
    return _text(x, y, text, "note", anchor)


def _bar(x: float, y: float, width: float, height: float, name: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        name, _n(x), _n(y), _n(max(width, 0)), _n(height)
    )


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(name, _n(x1), _n(y1), _n(x2), _n(y2))


def _text(x: float, y: float, text: str, name: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(name, _n(x), _n(y), anchor, text)


def _svg(width: float, height: float, words: str, parts: Sequence[Markup], points: str = "") -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}</svg>').format(
        _n(width), _n(height), words, Markup(' data-points="{}"').format(points) if points else "", _joined(parts)
    )


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _n(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
