"""Results of a study, as frames and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..boundary import RiskDataError, as_text
from ..io import write_text
from ..venue import POLICIES, AdlPolicy
from .tally import Tally

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_NOTHING: dict[str, list[Any]] = {"policy": [], "time": [], "wave": [], "largest_to_equity": [], "kept_top10": []}


@dataclass(frozen=True)
class Study:
    """Every policy on one event; docs/adl_study.md has each column in words.

    Attributes
    ----------
    total : DataFrame
        A row per policy: the whole event.
    waves : DataFrame
        A row per policy and wave.
    path : DataFrame
        A row per policy and tick: time, closed (notional so far at the first marks, settle units), and the part of
        their profit that the largest winners have kept.
    positions : DataFrame
        A row per policy and position: whole quanta closed and taken. They add up exactly.
    split : DataFrame or None
        Of a run: a row per policy and stage (order book, backstop, ADL), as of `riskcore.run.report.waterfall_split`.

    Examples
    --------
    >>> from riskcore.adl_study import generated_event, study
    >>> result = study(*generated_event(20), ["pnl_leverage", "pro_rata"])
    >>> result.total["policy"].tolist(), bool((result.total["closed"] <= result.total["requested"]).all())
    (['pnl_leverage', 'pro_rata'], True)
    """

    total: pd.DataFrame
    waves: pd.DataFrame
    path: pd.DataFrame
    positions: pd.DataFrame
    split: pd.DataFrame | None = None

    def picture(self) -> Figure:
        """Draw the policies side by side.

        Returns
        -------
        plotly.graph_objects.Figure
            The picture.

        Raises
        ------
        RiskDataError
            plotly is not installed.

        Examples
        --------
        >>> from riskcore.adl_study import generated_event, study
        >>> figure = study(*generated_event(20), ["pnl_leverage", "pro_rata"]).picture()
        >>> len(figure.data) > 0
        True
        """
        from .picture import picture  # plotly is an extra

        return picture(self)

    def write_html(self, path: str | Path) -> None:
        """Write the picture as one file that needs nothing else; it appears whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file to write, or to replace; its name ends in .html.

        Raises
        ------
        RiskDataError
            plotly is not installed, or the file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from riskcore.adl_study import generated_event, study
        >>> path = Path(tempfile.mkdtemp()) / "study.html"
        >>> study(*generated_event(20), ["pnl_leverage", "pro_rata"]).write_html(path)
        >>> path.exists()
        True
        """
        write_text(self.picture().to_html(include_plotlyjs=True), path, ".html")


def chosen(policies: Sequence[str] | None) -> list[AdlPolicy]:
    """Policies by name, all of them if none is named.

    Raises
    ------
    RiskDataError
        There is no policy of that name.
    """
    if policies is not None and (isinstance(policies, str) or not isinstance(policies, Sequence)):
        raise RiskDataError("policy", None, "must be a list of names", value=policies)
    for name in policies or ():
        if not isinstance(name, str) or name not in POLICIES:
            raise RiskDataError("policy", None, f"must be one of {', '.join(POLICIES)}", value=name)
    return [POLICIES[name] for name in dict.fromkeys(policies or POLICIES)]


def gap_of(wave_gap: str | float) -> int:
    """Nanoseconds of a pause, given as text like "5s" or in seconds.

    Raises
    ------
    RiskDataError
        It is no length of time, or negative.
    """
    try:
        gap = pd.Timedelta(wave_gap) if isinstance(wave_gap, str) else pd.Timedelta(seconds=wave_gap)
        if gap >= pd.Timedelta(0):
            return int(gap.as_unit("ns").value)
    except (ValueError, OverflowError, TypeError, ArithmeticError):
        pass
    raise RiskDataError("wave_gap", None, "must be a duration of 0 or more", value=as_text(wave_gap))


def collect(results: Sequence[tuple[Tally, pd.DataFrame]], split: pd.DataFrame | None = None) -> Study:
    """Put the figures of all policies together."""
    total = pd.DataFrame([tally.finish() for tally, _ in results])
    waves, path = ([row for tally, _ in results for row in getattr(tally, name)] for name in ("waves", "path"))
    by_wave, by_time = (pd.DataFrame(rows or _NOTHING) for rows in (waves, path))
    for frame in (by_wave, by_time):
        for name in frame.columns.intersection(["time", "t_start", "t_end"]):
            frame[name] = pd.to_datetime(frame[name], utc=True)
    positions = pd.concat([frame for _, frame in results], ignore_index=True)
    return Study(total, by_wave, by_time, positions, split)
