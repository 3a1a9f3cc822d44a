"""The margin of one account, line by line, in decimals that sum exactly."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, as_text
from ..market import PriceMap, Prices, Tick
from ..state import Accounts, must_fit
from ..venue import IMF, MMF, Venue
from . import exact
from .model import model_of
from .scenario_lines import scenario_lines
from .sweep import margins_of

_PLACES = Decimal("1e-15")
_AMOUNTS = ("net_equity", "exposure", "initial_margin", "maintenance_margin")


def explain_margin(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap | Tick,
    account: int | str,
    *,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
) -> pd.DataFrame:
    """Return net equity and requirements of one account, line by line.

    Parameters
    ----------
    accounts, venue, prices
        As of `sweep`, with a single vector of prices.
    account : int or str
        The user's account id.
    indexes, asset_prices, open_interest
        As of `sweep`, with a single vector of prices.

    Returns
    -------
    DataFrame
        kind (collateral, borrow, position, orders, unsettled, leverage_limit, initial, total), item (symbol), quantity,
        price, settle_asset, pnl, weight, net_equity, exposure, initial_margin, maintenance_margin. Decimals in natural
        units, to 15 places, None where there is no figure; the last row is the sum of the others, exactly. ``pnl`` is
        the unrealised PnL of a position in units of ``settle_asset``, ``weight`` the part of it that counts in net
        equity; orders have what resting orders add to the position's exposure and initial margin, leverage_limit has
        what the account's leverage limit adds.

        With the scenario model, the column standalone_margin has what each position and balance would need alone, and
        the line hedging what the whole needs less; lines scenario have the loss of each group and the scenario that
        sets it, lines charge what each charge adds, orders what open orders add to the initial margin, and rest what no
        line has. With another margin model than the separable one, the line initial has
        the initial margin, and a maintenance margin is the part of its line in that of the account.

    Raises
    ------
    RiskDataError
        There is no such account, or a price is missing.

    Notes
    -----
    The rule: docs/one_tick.md, "Margin of an account".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> lines = rc.explain_margin(accounts, venue, {market: 195.0}, 1)
    >>> for line in lines.itertuples():
    ...     print(f"{line.kind:10} {line.net_equity:6.2f} {line.maintenance_margin:6.3f}")
    collateral  80.00  0.000
    position   -50.00 26.325
    total       30.00 26.325
    """
    must_fit(accounts, venue)
    try:
        row = accounts.row_of(account)
    except KeyError:
        raise RiskDataError("accounts", "account", "must be an account of the state", value=as_text(account)) from None
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    model = model_of(venue)
    with localcontext(Context(prec=100)):
        lines = (_lines_of_parts if not (model.packed or model.revalues) else _margin_lines)(accounts, venue, read, row)
        if model.revalues:
            lines = scenario_lines(accounts, row, read, lines)
        amounts = (*_AMOUNTS, "standalone_margin") if model.revalues else _AMOUNTS
        for line in lines:
            line |= {name: line.get(name, Decimal(0)).quantize(_PLACES) for name in amounts}
        total = {name: sum((line[name] for line in lines), Decimal(0)) for name in amounts}
    blank = dict.fromkeys(("kind", "item", "quantity", "price", "settle_asset", "pnl", "weight"))
    return pd.DataFrame([blank | line for line in (*lines, {"kind": "total"} | total)], dtype=object)


def _lines_of_parts(accounts: Accounts, venue: Venue, prices: Prices, account: int) -> list[dict[str, Any]]:
    """Return the lines of `_margin_lines` with the margins of any model, whose initial margin has no parts."""
    margin = model_of(venue).account(accounts, account, prices)
    holdings = (held for held in exact.holdings(accounts, account, prices) if held.kind != "cash")
    lines = _margin_lines(accounts, venue, prices, account)
    for line in lines:
        line.pop("initial_margin", None)
        if line["kind"] in ("collateral", "borrow", "position"):
            holding = next(holdings)
            parts = {"borrow": margin.borrowed, "position": margin.requirement}.get(line["kind"], {})
            line["maintenance_margin"] = parts.get(holding.row, Decimal(0))
    initial = margins_of(accounts, np.array([account]), prices).initial_margin[0]
    return [
        *(x for x in lines if x["kind"] != "leverage_limit"),
        {"kind": "initial", "initial_margin": exact.decimal(initial)},
    ]


def _margin_lines(accounts: Accounts, venue: Venue, prices: Prices, account: int) -> list[dict[str, Any]]:
    columns, markets, assets = accounts.columns, len(venue.markets.symbol), venue.assets
    limit = float(accounts.leverage_limit[account])
    leverage_fraction = Decimal(0) if limit == float("inf") else 1 / exact.decimal(limit)
    lines: list[dict[str, Any]] = []
    unsettled: list[dict[str, Any]] = []
    for holding in exact.holdings(accounts, account, prices):
        if holding.kind == "cash":  # of which the costs are in the lines of the positions
            if quanta := int(columns.unsettled[holding.row]):
                equity = quanta * exact.decimal(assets.quantum[holding.item]) * holding.price * holding.weight
                unsettled.append({"kind": "unsettled", "item": assets.symbol[holding.item], "net_equity": equity})
            continue
        is_position = holding.kind == "position"
        symbol = (venue.markets.symbol if is_position else venue.assets.symbol)[holding.item]
        margin_function = 2 * (holding.item if is_position else markets + holding.item)

        def initial(
            notional: Decimal, price: Decimal = holding.price, margin_function: int = margin_function + IMF
        ) -> Decimal:
            return exact.requirement(prices, margin_function, notional, price)

        line: dict[str, Any] = {
            "kind": holding.kind, "item": symbol, "quantity": holding.quantity, "price": holding.price,
            "weight": holding.weight, "net_equity": holding.equity,
        }  # fmt: skip
        if holding.notional:
            line |= {
                "exposure": holding.notional,
                "initial_margin": max(initial(holding.notional), holding.notional * leverage_fraction * is_position),
                "maintenance_margin": exact.requirement(prices, margin_function + MMF, holding.notional, holding.price),
            }
        if is_position:
            settle = int(venue.markets.settle[holding.item])
            cost = int(columns.cost[holding.row]) * exact.decimal(assets.quantum[settle])
            value = int(columns.lots[holding.row]) * exact.value_per_lot(prices, holding.item)
            line |= {
                "settle_asset": assets.symbol[settle], "pnl": (value - cost).quantize(_PLACES),
                "weight": holding.weight if settle in venue.money[1:] else None,
                "net_equity": holding.equity - cost * exact.decimal(prices.asset[settle]) * holding.weight,
            }  # fmt: skip
        lines.append(line)
        if holding.exposure > holding.notional:
            with_orders = max(initial(holding.exposure), holding.exposure * leverage_fraction)
            lines.append(
                {
                    "kind": "orders", "item": symbol, "exposure": holding.exposure - holding.notional,
                    "initial_margin": with_orders - line.get("initial_margin", Decimal(0)),
                }
            )  # fmt: skip
    lines += unsettled
    locked = sum((line.get("initial_margin", Decimal(0)) for line in lines), Decimal(0))
    by_leverage = leverage_fraction * sum((line.get("exposure", Decimal(0)) for line in lines), Decimal(0))
    if by_leverage > locked:
        lines.append({"kind": "leverage_limit", "initial_margin": by_leverage - locked})
    return lines
