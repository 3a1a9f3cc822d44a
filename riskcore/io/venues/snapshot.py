"""Accounts as a venue reports them, and the comparison with the figures of riskcore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ...boundary import RiskDataError
from ...margin import MarginTable, liquidation_prices, sweep
from ...state import Accounts
from ...venue import Venue, load_venue
from .parameters import at_face_value
from .replies import exact_price

Rows = Sequence[Mapping[str, Any]]
Figure: TypeAlias = "tuple[int | str | None, str | None, str, Any]"
"""Account (None for all together), market (None for the whole account), name of the figure, value."""

_COARSEST, _FINEST = 6, 12  # decimals of a quantum


@dataclass(frozen=True)
class Snapshot:
    """Accounts of a venue at an instant.

    Attributes
    ----------
    venue : Venue
        The rules, with quanta as fine as the payload's amounts.
    accounts : Accounts
        The accounts.
    marks, asset_prices : dict of str to float
        Prices in the payload, by symbol, settle units; `riskcore.sweep` and the others take them as they are.
    reported : DataFrame
        Figures of the venue: account (None for all accounts together), market (None for the whole account), figure
        (net_equity, exposure, initial_margin, maintenance_margin, liquidation_price), value (settle units).
    open_interest : dict of str to float
        By symbol, quantities, where it is known.

    Examples
    --------
    >>> from riskcore.io import dydx
    >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
    >>> markets = {"markets": {"BTC-USD": margin | {"tickSize": "1", "stepSize": "0.0001"}}}
    >>> reply = {"equity": "900", "openPerpetualPositions": {"BTC-USD": {"side": "LONG", "size": "0.1"}}}
    >>> reply = reply | {"assetPositions": {"USDC": {"side": "SHORT", "size": "9100"}}}
    >>> snapshot = dydx.load_account(dydx.load_venue(None, markets), {"subaccount": reply}, {"BTC-USD": 100_000})
    >>> snapshot.accounts
    Accounts(1 account, 1 position, 0 open orders, 900.00 USDC in balances)
    """

    venue: Venue
    accounts: Accounts
    marks: dict[str, float]
    asset_prices: dict[str, float]
    reported: pd.DataFrame
    open_interest: dict[str, float] = field(default_factory=dict)

    def compare(self) -> pd.DataFrame:
        """Compare the reported figures with those of riskcore.

        Returns
        -------
        DataFrame
            The columns of ``reported``, riskcore (the same figure as riskcore computes it, settle units) and
            relative_difference (of the two; 0.01 is one percent).

        Examples
        --------
        >>> from riskcore.io import dydx
        >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
        >>> markets = {"markets": {"BTC-USD": margin | {"tickSize": "1", "stepSize": "0.0001"}}}
        >>> reply = {"equity": "900", "openPerpetualPositions": {"BTC-USD": {"side": "LONG", "size": "0.1"}}}
        >>> reply = reply | {"assetPositions": {"USDC": {"side": "SHORT", "size": "9100"}}}
        >>> snapshot = dydx.load_account(dydx.load_venue(None, markets), {"subaccount": reply}, {"BTC-USD": 100_000})
        >>> snapshot.compare()[["figure", "value", "riskcore"]].round(6).to_dict("records")
        [{'figure': 'net_equity', 'value': 900.0, 'riskcore': 900.0}]
        """
        table = sweep(
            self.accounts, self.venue, self.marks, asset_prices=self.asset_prices, open_interest=self.open_interest
        )
        assert isinstance(table, MarginTable)
        whole = table.to_frame().set_index("account")
        prices = liquidation_prices(self.accounts, self.venue, self.marks, asset_prices=self.asset_prices)
        each = prices.to_frame().set_index(["account", "market"])
        own = [
            whole[row.figure].sum()
            if row.account is None
            else whole.at[row.account, row.figure]
            if row.market is None
            else each.at[(row.account, row.market), row.figure]
            for row in self.reported.itertuples()
        ]
        compared = self.reported.assign(riskcore=np.array(own, float))
        gap = (compared["riskcore"] - compared["value"]).abs()
        return compared.assign(relative_difference=(gap / compared["value"].abs()).mask(gap == 0, 0.0))


def snapshot(
    source: Mapping[str, Any],
    positions: Rows,
    balances: Rows,
    marks: Mapping[str, Any],
    reported: Sequence[Figure],
    *,
    asset_prices: Mapping[str, Any] | None = None,
    orders: Rows = (),
    settings: Rows = (),
    open_interest: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Build a snapshot from rows of the input tables whose amounts are Decimal.

    Parameters
    ----------
    source
        A venue as `riskcore.load_venue` takes it. An asset without a ``quantum`` gets one that holds every digit of
        the balances, or the finest that fits 64 bits.
    positions, balances, orders, settings
        Rows of the tables of `Accounts.from_frames`.
    marks, asset_prices, open_interest
        By symbol.
    reported
        (account or None, market or None, figure, value).
    """
    fine = {row["asset"]: _decimals(balances, row["asset"]) for row in balances}
    fine[source["settle_asset"]] = max(fine.get(source["settle_asset"], 0), 9)
    frames = [_frame(rows) for rows in (positions, balances, orders, settings)]
    for decimals in sorted({fine[source["settle_asset"]], _COARSEST}, reverse=True):
        fine[source["settle_asset"]] = decimals
        venue = load_venue(_with_quanta(source, fine))
        try:
            accounts = _accounts(venue, frames)
            break
        except RiskDataError:
            if decimals == _COARSEST:
                raise
    table = pd.DataFrame(list(reported), columns=["account", "market", "figure", "value"], dtype=object)
    table["value"] = table["value"].astype(float)
    prices = {name: float(exact_price("asset_prices", name, price)) for name, price in (asset_prices or {}).items()}
    mark_prices = {name: float(exact_price("marks", name, mark)) for name, mark in marks.items()}
    interest = {
        name: float(exact_price("open_interest", name, quantity))
        for name, quantity in (open_interest or {}).items()
        if quantity != 0
    }
    return Snapshot(venue, accounts, mark_prices, prices, table, interest)


def _decimals(balances: Rows, asset: str) -> int:
    """Decimals that hold every digit of the balances of an asset, as far as float64 and 64 bits go."""
    amounts = [
        Decimal(row.get(name) or 0) for row in balances if row["asset"] == asset for name in ("quantity", "lent")
    ]
    digits = max(-int(amount.normalize().as_tuple().exponent) for amount in amounts)
    room = 15 - max(amount.adjusted() if amount else 0 for amount in amounts)
    return max(_COARSEST, min(digits, _FINEST, room))


def _with_quanta(source: Mapping[str, Any], decimals: Mapping[str, int]) -> dict[str, Any]:
    settle = source["settle_asset"]
    rows = list(source["collateral"])
    if settle not in {row["symbol"] for row in rows}:
        rows.append(at_face_value(settle))
    fine = [{"quantum": f"1e-{decimals.get(row['symbol'], _COARSEST)}"} | dict(row) for row in rows]
    return dict(source) | {"collateral": fine}


def _frame(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    for name in ("quantity", "lent", "entry_price", "settle_price", "price", "leverage_limit", "unsettled"):
        if name in frame.columns:
            frame[name] = frame[name].astype(float)
    return frame


def _accounts(venue: Venue, frames: Sequence[pd.DataFrame]) -> Accounts:
    positions, balances, orders, settings = frames
    if not len(positions):
        positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    return Accounts.from_frames(
        venue, positions, balances, orders if len(orders) else None, settings if len(settings) else None
    )
