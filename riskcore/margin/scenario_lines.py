"""The lines of the margin of one account under a scenario model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from ..kernels.scenario_accounts import BORROWS
from ..market import Prices
from ..scenario import Portfolios, ScenarioModel, ScenarioTable
from ..state import Accounts
from . import exact
from .model import folded, model_of
from .scenario import numeraire_price, table_of
from .scenario_view import portfolios_of

_WITHOUT = "haircuts", "spreads", "minimum", "im_multiplier", "round_initial"
"""Keys of a model that change a requirement after the losses of the groups, but for the contingencies."""

_SMALL = 1e-9  # part of a margin below which a difference of two float64 is rounding


def scenario_lines(
    accounts: Accounts, account: int, prices: Prices, equity_lines: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the lines of `riskcore.explain_margin` under a scenario model.

    Parameters
    ----------
    accounts : Accounts
        The state.
    account : int
        Account row.
    prices : Prices
        Complete prices of one instant.
    equity_lines : list of dict
        The lines of the separable model, of which equity counts.

    Returns
    -------
    list of dict
        The lines of equity with the gross delta notional of positions, the functions of borrows, and what each has
        alone; then those of the requirement: ``scenario`` by group, the charges, ``orders``, ``rest`` and ``hedging``.
    """
    margin = model_of(prices.venue).account(accounts, account, prices)
    figures, status = np.empty((4, 1)), np.empty(1, np.uint8)
    model_of(prices.venue).estimate(accounts, np.array([account]), prices, figures, status)
    lines = [line for line in equity_lines if line["kind"] not in ("orders", "leverage_limit")]
    alone = _fill_equity_lines(accounts, account, prices, lines)
    lines += _requirement_lines(accounts, account, prices)
    for name, target in (("maintenance_margin", figures[3, 0]), ("initial_margin", figures[2, 0])):
        rest = exact.decimal(target) - sum((line.get(name, Decimal(0)) for line in lines), Decimal(0))
        if abs(rest) > _SMALL * (1.0 + abs(target)):
            lines.append({"kind": "rest", "item": name, name: rest})
    lines.append({"kind": "hedging", "standalone_margin": margin.maintenance - alone})
    return lines


def _fill_equity_lines(accounts: Accounts, account: int, prices: Prices, lines: list[dict[str, Any]]) -> Decimal:
    """Give the lines of positions and borrows their exposure and what each needs alone; returns the sum of those."""
    arrays, venue, total = folded(prices), prices.venue, Fraction(0)
    price, quantum = numeraire_price(prices), Fraction(venue.settle_quantum)
    holdings = (held for held in exact.holdings(accounts, account, prices) if held.kind != "cash")
    for line in lines:
        if line["kind"] not in ("collateral", "borrow", "position"):
            continue
        held, own = next(holdings), line.pop("maintenance_margin", Decimal(0))
        initial = line.pop("initial_margin", Decimal(0))
        if held.kind == "position":
            size = int(accounts.columns.lots[held.row]) * venue.markets.exact_lot_size[held.item]
            line["exposure"] = exact.decimal(abs(size) * Fraction(float(arrays.notional[held.item])) * quantum)
            need = abs(size) * Fraction(float(arrays.alone[held.item, 0 if size > 0 else 1])) * price
        elif held.kind == "borrow" and arrays.layout.spot_counts[held.item] & BORROWS:
            need = -Fraction(held.quantity) * Fraction(float(arrays.alone[len(prices.mark) + held.item, 1])) * price
        elif held.kind == "borrow":
            line |= {"initial_margin": initial, "maintenance_margin": own}
            need = Fraction(own)
        else:
            continue
        line["standalone_margin"] = exact.decimal(need)
        total += need
    return exact.decimal(total)


def _requirement_lines(accounts: Accounts, account: int, prices: Prices) -> Iterator[dict[str, Any]]:
    """Lines of the requirement: what each step of the model adds to those before."""
    table, price = table_of(prices), numeraire_price(prices)
    portfolio = portfolios_of(accounts, np.array([account]), folded(prices).layout, prices)
    held = replace(portfolio, orders=None)
    if not (held.size != 0.0).any() and portfolio.orders is None:
        return

    def line(kind: str, item: str, now: tuple[float, float], before: tuple[float, float]) -> dict[str, Any]:
        maintenance, initial = (
            exact.decimal((Fraction(a) - Fraction(b)) * price) for a, b in zip(now, before, strict=True)
        )
        return {"kind": kind, "item": item, "initial_margin": initial, "maintenance_margin": maintenance}

    content = table.model.to_dict()
    charges = content.get("contingencies", [])
    step = table.model.replace(contingencies=None, **dict.fromkeys(_WITHOUT))
    base, before = _table_of(step, table), (0.0, 0.0)
    for group in table.model.groups_of(table.instruments.underlyings):
        part = _of_group(held, table, group.members)
        if len(part.size):
            found = base.requirements(part, threads=1)
            names = ", ".join(table.instruments.underlyings[u] for u in group.members)
            worst = int(found.worst[0])
            scenario = step.rows[worst].name if worst >= 0 else "no loss"
            now = float(found.maintenance[0]), float(found.initial[0])
            yield line("scenario", f"{names}: {scenario}", now, (0.0, 0.0))
    before = _needed(base, held)
    changes = [("charge", row["kind"], {"contingencies": charges[: n + 1]}) for n, row in enumerate(charges)]
    changes += [("charge", name, {name: content[name]}) for name in _WITHOUT if name in content]
    for kind, item, change in changes:
        step = step.replace(**change)
        now = _needed(_table_of(step, table), held)
        if now != before:
            yield line(kind, item, now, before)
        before = now
    if portfolio.orders is not None:
        yield line("orders", "", _needed(table, portfolio), before)


def _table_of(model: ScenarioModel, table: ScenarioTable) -> ScenarioTable:
    return ScenarioTable.of(model, table.instruments, table.market)


def _needed(table: ScenarioTable, portfolio: Portfolios) -> tuple[float, float]:
    """Maintenance and initial requirement of one portfolio, numeraire."""
    found = table.requirements(portfolio, threads=1)
    return float(found.maintenance[0]), float(found.initial[0])


def _of_group(portfolio: Portfolios, table: ScenarioTable, members: tuple[int, ...]) -> Portfolios:
    """The rows of one portfolio that are of some underlyings."""
    rows = np.isin(table.arrays.underlying[portfolio.instrument], members)
    span = np.array([0, np.count_nonzero(rows)], np.uint32)
    return Portfolios(span, portfolio.instrument[rows], portfolio.size[rows])
