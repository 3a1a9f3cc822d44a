"""Draw the pictures of the documents: `make pictures`.

They show the run that the README makes, by the figures of its report, the table of the storm study, and the scenario
margin of a sample. Plain SVG, dark where the reader's system is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from riskcore import scenario_losses
from riskcore.record import STAGES
from riskcore.run import binding_picture, figures, payoff_picture
from riskcore.run.svg import WIDTH, picture, round_numbers, text
from riskcore.sample import options_sample
from tests import pages

FOLDER = pages.ROOT / "docs" / "pictures"
RUN = "runs/crash"
LEFT, RIGHT = 95, 90
Trace = tuple[Any, np.ndarray, np.ndarray]  # of plotly, seconds, values
Scale = Callable[[Any], Any]  # from values to pixels


def pictures(run: Path) -> dict[str, str]:
    """Pictures of a run folder with a report, by the names of their files."""
    recorded = figures.RecordedRun.read(run)
    price = panel(figures.liquidations(recorded), 62, 200)
    ratios = panel(figures.accounts_by_margin_ratio(recorded), 360, 170)
    crash = [text(20, 28, "A generated crash: liquidated notional by stage, and price", "title"), *price]
    crash += [text(20, 326, f"Its {len(recorded.start):,} accounts by maintenance margin ratio", "title"), *ratios]
    return {
        "crash.svg": picture(crash, 584),
        "report.svg": report((run / "report.html").read_text(), recorded),
        "storm.svg": storm(storm_table()),
        **scenario_margin(),
    }


def scenario_margin() -> dict[str, str]:
    """What a short strangle of the sample of options loses, and which scenarios bind its accounts."""
    sample = options_sample()
    losses = scenario_losses(sample.accounts, sample.venue, sample.tick)
    strangle = int(np.flatnonzero(sample.books == "short strangle")[0])
    return {
        "payoff.svg": payoff_picture(sample.accounts, sample.venue, sample.tick, strangle + 1),
        "binding.svg": binding_picture(losses),
    }


def storm_table() -> list[dict[str, str]]:
    """Rows of the table of the storm study, as docs/studies.md shows it."""
    section = pages.as_text("docs/studies.md").partition("\n## A storm\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


_STORM_ROWS = (
    ("slice probability 0.5, clock 1 s, by depth", {"probability": "0.5", "clock": "1 s"}, "depth"),
    ("slice probability 1, clock 1 s, by depth", {"probability": "1", "clock": "1 s"}, "depth"),
    ("slice probability 0.5, recorded depth, by clock", {"probability": "0.5", "depth": "1"}, "clock"),
)


def storm(table: list[dict[str, str]]) -> str:
    """Shares of the stages by notional: a column per leverage limit, rows of bars by depth and by clock."""
    limits = list(dict.fromkeys(row["leverage"] for row in table))
    stages = list(zip(STAGES, figures.STAGE_COLOURS, strict=True))
    width, height = (WIDTH - 40) // len(limits), 110
    parts = [text(20, 28, "Who closes the positions in a day of fall, by notional", "title")]
    for n, (stage, colour) in enumerate(stages):
        parts.append(f'<rect x="{34 + 110 * n}" y="44" width="11" height="11" fill="{colour}"/>')
        parts.append(text(49 + 110 * n, 54, stage, "quiet"))
    for row, (caption, chosen, by) in enumerate(_STORM_ROWS):
        top = 116 + row * 190
        parts.append(text(20, top - 30, caption, "quiet"))
        for column, limit in enumerate(limits):
            cells = [cell for cell in table if (chosen | {"leverage": limit}).items() <= cell.items()]
            parts.append(text(20 + column * width, top - 10, f"up to {limit}"))
            for n, cell in enumerate(cells):
                x, y = 20 + column * width + n * 80, float(top)
                for stage, colour in reversed(stages):
                    part = height * float(cell[f"notional, {stage}"].rstrip("%")) / 100
                    parts.append(f'<rect x="{x}" y="{y:.1f}" width="62" height="{part:.1f}" fill="{colour}"/>')
                    y += part
                share = f"{float(cell[f'notional, {STAGES[0]}'].rstrip('%')):.0f} %"
                parts.append(text(x + 31, top + height - 6, share, "middle"))
                parts.append(text(x + 31, top + height + 16, cell[by], "quiet middle"))
    return picture(parts, 116 + 190 * len(_STORM_ROWS) - 30)


def report(page: str, run: figures.RecordedRun) -> str:
    """Top of a report: heading, tiles, and the first figure."""
    words = _Words(page).found
    parts = [text(20, 32, words["h1"][0], "value"), text(20, 54, words["quiet"][0], "quiet")]
    for n, (label, value, detail) in enumerate(zip(*[iter(words["tile"])] * 3, strict=True)):
        x, y, width = 20 + n % 2 * 415, 70 + n // 2 * 84, 405
        parts += [f'<rect class="card" x="{x}" y="{y}" width="{width}" height="74" rx="8"/>']
        parts += [text(x + 14, y + 20, label, "quiet"), text(x + 14, y + 64, detail, "quiet")]
        parts += [text(x + 14, y + 44, value, "value" if len(value) <= 20 else "title")]
    parts += ['<rect class="card" x="20" y="242" width="820" height="290" rx="8"/>']
    parts += [text(34, 266, "Liquidations and price", "title"), *panel(figures.liquidations(run), 302, 180)]
    return picture(parts, 546)


class _Words(HTMLParser):
    """Texts of a report by the element that has them; those of a tile: label, value, detail."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"h1": [], "quiet": [], "tile": []}
        self._tag = self._class = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag in ("div", "section", "p"):
            self._class = dict(attrs).get("class") or ""
        if self._class == "tile" and tag in ("span", "b"):
            self.found["tile"].append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._class == "tile" and self._tag in ("span", "b"):
            self.found["tile"][-1] += data
        elif self._tag in self.found:
            self.found[self._tag].append(data)
        elif self._tag == "p" and self._class in self.found:
            self.found[self._class].append(data)


def panel(figure: Any, top: int, height: int) -> list[str]:
    """Draw a figure of the report: stacked bars or areas, a line on the right axis, a legend above."""
    traces = [(trace, _seconds(trace.x), np.asarray(trace.y, float)) for trace in figure.data]
    stacked = [(trace, x, y) for trace, x, y in traces if trace.yaxis != "y2"]
    lines = [(trace, x, y) for trace, x, y in traces if trace.yaxis == "y2"]
    times = np.concatenate([x for _, x, _ in traces])
    across = partial(np.interp, xp=[times.min(), times.max()], fp=[LEFT, WIDTH - RIGHT])
    up = partial(np.interp, xp=(span := [0, np.sum([y for *_, y in stacked], axis=0).max()]), fp=[top + height, top])
    parts = _legend(traces, top - 20)
    parts += [
        text(across(tick), top + height + 20, f"{pd.Timestamp(tick, unit='s'):%H:%M}", "quiet middle")
        for tick in np.arange(-(-times.min() // 300) * 300, times.max() + 1, 300)
    ]
    parts.append(text(34, top + height + 40, figure.layout.yaxis.title.text, "quiet"))
    for tick in round_numbers(*span):
        parts.append(text(LEFT - 8, up(tick) + 4, f"{tick:,.0f}", "quiet end"))
        parts.append(f'<path class="grid" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
    parts += _stack(stacked, across, up)
    for trace, x, y in lines:
        span = [np.nanmin(y), np.nanmax(y)]
        up = partial(np.interp, xp=span, fp=[top + height, top])
        parts.append(text(WIDTH - 34, top + height + 40, figure.layout.yaxis2.title.text, "quiet end"))
        parts += [text(WIDTH - RIGHT + 8, up(tick) + 4, f"{tick:,.0f}", "quiet") for tick in round_numbers(*span)]
        shape = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across(x), up(y), strict=True))
        parts.append(f'<path fill="none" stroke="{_colour(trace)}" stroke-width="1.8" d="M{shape}"/>')
    return parts


def _legend(traces: list[Trace], y: int) -> list[str]:
    parts, x = [], 34
    for trace, *_ in traces:
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{_colour(trace)}"/>')
        parts.append(text(x + 15, y + 10, trace.name, "quiet"))
        x += 28 + round(6.9 * len(trace.name))
    return parts


def _stack(traces: list[Trace], across: Scale, up: Scale) -> list[str]:
    """Bars, or areas from the axis to the sum so far: the highest first, so that the others lie on it."""
    parts, below = [], np.zeros(len(traces[0][1]))
    for trace, x, y in traces:
        if trace.type == "bar":
            left, width = across(x), across(x[1]) - across(x[0])
            shape = "".join(
                f"M{a:.1f} {low:.1f}h{width:.1f}V{high:.1f}h-{width:.1f}"
                for a, low, high in zip(left, up(below), up(below + y), strict=True)
                if low > high
            )
            parts.append(f'<path fill="{_colour(trace)}" d="{shape}"/>')
        else:
            shape = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across(x), up(below + y), strict=True))
            bottom = f"V{up(0):.1f}H{across(x[0]):.1f}"
            parts.insert(0, f'<path fill="{_colour(trace)}" d="M{shape}{bottom}"/>')
        below = below + y
    return parts


def _colour(trace: Any) -> str:
    return trace.marker.color if trace.type == "bar" else trace.fillcolor or trace.line.color


def _seconds(times: Any) -> np.ndarray:
    return pd.DatetimeIndex(pd.to_datetime(np.asarray(times), utc=True)).as_unit("ns").asi8 / 1e9


def main() -> None:
    """Run the README and draw what it made."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pages.run("README.md", Path(folder))
        for name, content in pictures(Path(folder) / RUN).items():
            (FOLDER / name).write_text(content)


if __name__ == "__main__":
    main()
