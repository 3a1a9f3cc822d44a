"""An index price from the quotes of several venues."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, schemas


def _weight(weight: object) -> float:
    try:
        return schemas.number(weight)
    except ValueError:
        return math.nan


def cross_venue_index(
    quotes: pd.DataFrame,
    weights: Mapping[str, float] | None = None,
    *,
    max_deviation: float = 100.0,
    unit: str = "ns",
) -> pd.DataFrame:
    """Compute index prices from quotes of several venues.

    The price of a source is the median of its bid, its ask and its last trade. Each is brought to within
    ``max_deviation`` of the median over the sources; the index is their weighted mean.

    Parameters
    ----------
    quotes : DataFrame
        time, market, source, bid, ask, last (settle units): quotes of the sources at each time. NaN is not known; a
        source of which nothing is known is left out.
    weights : mapping of str to float, optional
        Weight of each source, > 0; without, all weigh the same.
    max_deviation : float
        Basis points, >= 0.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.

    Returns
    -------
    DataFrame
        time (nanoseconds), market, index_price (settle units); ascending by time and market.

    Raises
    ------
    RiskDataError
        A column is missing, a value out of range, a source stands twice or has no weight.

    Examples
    --------
    The third source is brought to 101.101, which is 100 basis points above the median of 100.1.

    >>> import pandas as pd
    >>> import riskcore as rc
    >>> quotes = pd.DataFrame({"source": ["a", "b", "c"], "last": [100.0, 100.1, 150.1]})
    >>> quotes = quotes.assign(time="2025-10-10T21:00Z", market="SOL_USDC_PERP", bid=quotes["last"], ask=quotes["last"])
    >>> rc.cross_venue_index(quotes)["index_price"].round(6).tolist()
    [100.400333]
    """
    if not 0 <= schemas.figure("max_deviation", max_deviation) < math.inf:
        raise RiskDataError("max_deviation", None, "must be a number of basis points >= 0", value=max_deviation)
    quotes = schemas.checked("quotes", quotes, unit=unit)
    weight = pd.Series(1.0, quotes.index)
    if weights is not None:
        if not isinstance(weights, Mapping):
            raise RiskDataError("weights", None, "must be a mapping by source", value=type(weights).__name__)
        weight = pd.Series([_weight(weights.get(source)) for source in quotes["source"]], quotes.index)
        bad = np.flatnonzero(~(np.isfinite(weight) & (weight > 0)))
        if bad.size:
            row = int(bad[0])
            raise RiskDataError("quotes", "source", "must have a weight > 0", row=row, value=quotes["source"].iloc[row])
    price = quotes[["bid", "ask", "last"]].median(axis=1)
    has_price = price.notna().to_numpy()
    keys = [quotes.loc[has_price, "time"], quotes.loc[has_price, "market"]]
    price, weight = price[has_price], weight[has_price]
    middle = price.groupby(keys).transform("median")
    deviation = max_deviation / 10_000
    parts = pd.DataFrame(
        {"price": price.clip(middle * (1 - deviation), middle * (1 + deviation)) * weight, "weight": weight}
    )
    sums = parts.groupby(keys).sum()
    return (sums["price"] / sums["weight"]).rename("index_price").reset_index()
