"""Heat maps over price moves and volatility, with bars beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._typing import Float, Int
from .svg import WIDTH, picture, round_numbers, text

_LEFT, _RIGHT, _TOP, _HEIGHT = 112, 548, 84, 300
_BARS_LEFT, _BARS_RIGHT = 590, WIDTH - 24
_STEPS = 10  # of colour to either side
_LOSS, _NEUTRAL, _GAIN, _MARK = (201, 52, 46), (238, 241, 244), (47, 111, 201), "#f0a032"
_SHOWN = 13  # bars


@dataclass(frozen=True)
class Mark:
    """A scenario on a map: its place, its name, and whether it is the binding one."""

    x: float
    y: float
    name: str
    binding: bool = False


@dataclass(frozen=True)
class Bar:
    """A scenario beside a map: its name, its value, the value as text, and whether it is the binding one."""

    name: str
    value: float
    shown: str
    binding: bool = False


def surface(
    title: str,
    subtitle: str,
    moves: Float,
    levels: Float,
    change: Float,
    marks: Sequence[Mark],
    bars: Sequence[Bar],
    *,
    level_names: dict[float, str],
    bars_title: str,
) -> str:
    """Draw a change of value over price moves and levels of volatility.

    Parameters
    ----------
    title, subtitle : str
        Lines above.
    moves : ndarray of float64, shape (X,)
        Relative price moves, ascending.
    levels : ndarray of float64, shape (Y,)
        Levels of volatility, ascending.
    change : ndarray of float64, shape (Y, X)
        Change of value: a loss is negative.
    marks : sequence of Mark
        Scenarios inside the map.
    bars : sequence of Bar
        Scenarios beside it, with their losses.
    level_names : dict of float to str
        Labels of some levels.
    bars_title : str
        Line above the bars.

    Returns
    -------
    str
        The picture, SVG.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.run.heat_maps import surface
    >>> moves, levels = np.linspace(-0.1, 0.1, 3), np.array([0.0, 1.0])
    >>> change = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])
    >>> drawn = surface("A", "", moves, levels, change, [], [], level_names={0.0: "same"}, bars_title="")
    >>> drawn.count("<path fill"), "same" in drawn
    (5, True)
    """
    bottom = _TOP + _HEIGHT
    step_x, step_y = (_RIGHT - _LEFT) / len(moves), _HEIGHT / len(levels)
    across = partial(np.interp, xp=moves[[0, -1]], fp=[_LEFT + step_x / 2, _RIGHT - step_x / 2])
    up = partial(np.interp, xp=levels[[0, -1]], fp=[bottom - step_y / 2, _TOP + step_y / 2])
    largest = float(np.abs(change).max()) or 1.0
    colour = np.rint(change / largest * _STEPS).astype(np.int64)
    parts = [text(20, 28, title, "title"), text(20, 50, subtitle, "quiet")]
    parts += [_runs(colour == step, _colour(step / _STEPS), step_x, step_y) for step in np.unique(colour).tolist()]
    parts += [text(across(m), bottom + 18, percent(m), "quiet middle") for m in round_numbers(moves[0], moves[-1])]
    parts.append(text(_LEFT - 8, _TOP - 10, "volatility", "quiet end"))
    parts += [text(_LEFT - 8, up(level) + 4, name, "quiet end") for level, name in level_names.items()]
    for mark in sorted(marks, key=lambda each: each.binding):
        parts.append(_mark(float(across(mark.x)), float(up(mark.y)), mark))
    parts.append(text((_LEFT + _RIGHT) / 2, bottom + 38, "price move", "quiet middle"))
    parts += _scale(largest, bottom + 52)
    parts += _bars(bars, bars_title)
    return picture(parts, bottom + 84)


def counts(
    title: str,
    subtitle: str,
    columns: Sequence[str],
    rows: Sequence[str],
    count: Int,
    bars: Sequence[Bar],
    *,
    bars_title: str,
) -> str:
    """Draw how often each cell of a table of price moves and volatility rules occurs.

    Parameters
    ----------
    title, subtitle : str
        Lines above.
    columns, rows : sequence of str
        Labels of the X price moves and of the Y volatility rules, from the top.
    count : ndarray of int64, shape (Y, X)
        How often each cell occurs; -1 where there is no scenario.
    bars : sequence of Bar
        What lies beside the table.
    bars_title : str
        Line above the bars.

    Returns
    -------
    str
        The picture, SVG.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.run.heat_maps import counts
    >>> drawn = counts("A", "", ["-10 %", "+10 %"], ["same"], np.array([[3, -1]]), [], bars_title="")
    >>> drawn.count('class="cell"'), ">3<" in drawn
    (2, True)
    """
    height = min(_HEIGHT, 62 * len(rows))
    bottom, step_x, step_y = _TOP + height, (_RIGHT - _LEFT) / len(columns), height / len(rows)
    largest = max(int(count.max()), 1)
    parts = [text(20, 28, title, "title"), text(20, 50, subtitle, "quiet")]
    parts.append(text(_LEFT - 8, _TOP - 10, "volatility", "quiet end"))
    for y, name in enumerate(rows):
        parts.append(text(_LEFT - 8, _TOP + (y + 0.5) * step_y + 4, name, "quiet end"))
        for x in range(len(columns)):
            number = int(count[y, x])
            fill = f'fill="{_colour(-number / largest)}"' if number >= 0 else 'fill="none"'
            at = f'x="{_LEFT + x * step_x + 1:.1f}" y="{_TOP + y * step_y + 1:.1f}"'
            parts.append(f'<rect class="cell" {at} width="{step_x - 2:.1f}" height="{step_y - 2:.1f}" {fill}/>')
            if number > 0:
                ink = "#fff" if number > 0.55 * largest else "#1c2733"
                place = f'x="{_LEFT + (x + 0.5) * step_x:.1f}" y="{_TOP + (y + 0.5) * step_y + 4:.1f}"'
                size = "" if step_x > 34 else "font-size:10px;"
                parts.append(f'<text {place} class="middle" style="{size}fill:{ink}">{_short(number)}</text>')
    longest = 7 * max(map(len, columns), default=0) + 8  # pixels of a label
    every = -(-len(columns) * longest // (_RIGHT - _LEFT))
    parts += [
        text(_LEFT + (x + 0.5) * step_x, bottom + 18, columns[x], "quiet middle") for x in range(0, len(columns), every)
    ]
    parts.append(text((_LEFT + _RIGHT) / 2, bottom + 38, "price move", "quiet middle"))
    parts += _bars(bars, bars_title)
    return picture(parts, max(bottom + 56, _TOP + 23 * min(len(bars), _SHOWN + 1) + 20))


def percent(move: float) -> str:
    """Return a relative move as text.

    Parameters
    ----------
    move : float
        The move, 0.01 is one per cent.

    Returns
    -------
    str
        Per cent with a sign, to two decimals.

    Examples
    --------
    >>> from riskcore.run.heat_maps import percent
    >>> percent(-0.18), percent(0.045), percent(0.0), percent(-0.1166666)
    ('-18 %', '+4.5 %', '0 %', '-11.67 %')
    """
    number = f"{round(100 * move, 2):+.10g}"
    return f"{'0' if float(number) == 0 else number} %"


def _colour(share: float) -> str:
    """Colour of a share from -1, the largest loss, to 1, the largest gain."""
    end = _GAIN if share > 0 else _LOSS
    mixed = [round(a + (b - a) * min(abs(share), 1.0)) for a, b in zip(_NEUTRAL, end, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _runs(where: np.ndarray, fill: str, step_x: float, step_y: float) -> str:
    """One path of all cells of a colour, neighbours of a row together; rows are counted from below."""
    shape = []
    for y, row in enumerate(where):
        edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        top = _TOP + _HEIGHT - (y + 1) * step_y
        for first, last in edges.tolist():
            width = (last - first) * step_x
            shape.append(f"M{_LEFT + first * step_x:.1f} {top:.1f}h{width:.1f}v{step_y:.1f}h-{width:.1f}z")
    return f'<path fill="{fill}" stroke="{fill}" stroke-width="0.4" d="{"".join(shape)}"/>'


def _mark(x: float, y: float, mark: Mark) -> str:
    if not mark.binding:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="#1c2733" fill-opacity="0.75"/>'
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{_MARK}" stroke-width="3.5"/>'
    anchor = "start" if x < (_LEFT + _RIGHT) / 2 else "end"
    beside, below = (14 if anchor == "start" else -14), (y - 14 if y > _TOP + 30 else y + 24)
    style = f"fill:#1c2733;paint-order:stroke;stroke:#fff;stroke-width:3px;font-weight:600;text-anchor:{anchor}"
    label = text(x + beside, below, mark.name).replace('class=""', f'style="{style}"', 1)
    return f'{ring}<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="#1c2733"/>{label}'


def _scale(largest: float, top: float) -> list[str]:
    """What the colours mean."""
    shares = np.arange(-_STEPS, _STEPS + 1) / _STEPS
    left, width = _LEFT + 60, 12
    parts = [
        f'<rect x="{left + n * width}" y="{top}" width="{width}" height="11" fill="{_colour(share)}"/>'
        for n, share in enumerate(shares.tolist())
    ]
    right = left + len(shares) * width
    parts.append(text(left - 6, top + 10, f"{-largest:,.0f}", "quiet end"))
    return [*parts, text(right + 6, top + 10, f"+{largest:,.0f}", "quiet")]


def _bars(bars: Sequence[Bar], title: str) -> list[str]:
    """Horizontal bars with a name above each and a value at its end; the largest where there are many."""
    if not bars:
        return []
    shown = bars if len(bars) <= _SHOWN else sorted(bars, key=lambda bar: -abs(bar.value))[:_SHOWN]
    largest = max(abs(bar.value) for bar in bars) or 1.0
    parts = [text(_BARS_LEFT, _TOP - 10, title, "quiet")]
    for n, bar in enumerate(shown):
        y = _TOP + 23 * n
        width = (_BARS_RIGHT - _BARS_LEFT) * abs(bar.value) / largest
        fill = _MARK if bar.binding else _colour(-1.0 if bar.value >= 0 else 1.0)
        shape = f'x="{_BARS_LEFT}" y="{y}" width="{width:.1f}" height="19" rx="2"'
        parts.append(f'<rect {shape} fill="{fill}" fill-opacity="0.5"/>')
        parts.append(text(_BARS_LEFT + 6, y + 14, bar.name))
        parts.append(text(_BARS_RIGHT - 4, y + 14, bar.shown, "end"))
    if len(bars) > len(shown):
        parts.append(text(_BARS_LEFT, _TOP + 23 * len(shown) + 14, f"and {len(bars) - len(shown)} more", "quiet"))
    return parts


def _short(number: int) -> str:
    return f"{number:,}" if number < 10_000 else f"{number / 1e3:,.0f}k" if number < 1e6 else f"{number / 1e6:,.1f}M"
