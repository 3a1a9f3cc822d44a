"""The lines of the margin of one account under a scenario model."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from ..market import Prices
from ..scenario import GroupPart, ScenarioTable
from ..state import Accounts
from . import exact
from .scenario import ExactFigures


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
        The lines of equity with the gross delta notional of positions, the functions of borrows, and what each needs
        alone; then those of the requirement: ``scenario`` by group, ``charge``, ``minimum``, ``orders``, ``rest`` and
        ``hedging``.
    """
    figures = ExactFigures(accounts, account, prices)
    lines = [line for line in equity_lines if line["kind"] not in ("orders", "leverage_limit")]
    needed, alone = _of_equity(figures, lines)
    for part in figures.parts.groups:
        needed += _of_group(part, figures)
    of_orders = (figures.initial_requirement - figures.parts.initial) * figures.numeraire
    if of_orders:
        needed.append(_Line("orders", "", Fraction(0), of_orders))
    rest = _Line(
        "rest", "",
        figures.maintenance - sum((line.maintenance for line in needed), Fraction(0)),
        figures.initial - sum((line.initial for line in needed), Fraction(0)),
    )  # fmt: skip
    if rest.maintenance or rest.initial:
        needed.append(rest)
    lines += [line.columns for line in needed if line.kind]
    lines.append({"kind": "hedging", "standalone_margin": exact.decimal(figures.maintenance - alone)})
    return lines


class _Line(NamedTuple):
    """What a line adds to the margins, settle units; one without a kind is that of a borrow."""

    kind: str
    item: str
    maintenance: Fraction
    initial: Fraction

    @property
    def columns(self) -> dict[str, Any]:
        """The line as a row of the table."""
        margins = {"initial_margin": exact.decimal(self.initial), "maintenance_margin": exact.decimal(self.maintenance)}
        return {"kind": self.kind, "item": self.item or None} | margins


def _of_equity(figures: ExactFigures, lines: list[dict[str, Any]]) -> tuple[list[_Line], Fraction]:
    """Fill the lines of positions and borrows; returns the margin functions of borrows, and what all need alone."""
    functions, total = [], Fraction(0)
    holdings = (
        held for held in exact.holdings(figures.accounts, figures.account, figures.prices) if held.kind != "cash"
    )
    for line in lines:
        if line["kind"] not in ("collateral", "borrow", "position"):
            continue
        held, initial, own = (
            next(holdings),
            line.pop("initial_margin", Decimal(0)),
            line.pop("maintenance_margin", None),
        )
        if held.kind == "position":
            line["exposure"] = exact.decimal(figures.delta_notional(held.row))
        elif held.kind == "borrow" and figures.has_function(held.row):
            line |= {"initial_margin": initial, "maintenance_margin": own}
            functions.append(_Line("", "", Fraction(own or 0), Fraction(initial)))
        alone = {"position": figures.alone, "borrow": figures.borrow, "collateral": figures.collateral}[held.kind](
            held.row
        )
        line["standalone_margin"] = exact.decimal(alone)
        total += alone
    return functions, total


def _of_group(part: GroupPart, figures: ExactFigures) -> list[_Line]:
    """Lines of a group: the loss that sets its requirement, its charges, and spread charges less credits."""
    table, price = figures.table, figures.numeraire
    charged = sum((charge.initial for charge in part.charges), part.spread)
    initial = part.initial - charged
    if part.initial == part.minimum:
        initial = Fraction(exact.decimal(table.arrays.im_factor)) * part.initial_loss
    amounts = [("scenario", _name(part, table), table.model.mm_factor * part.loss, initial)] if part.group >= 0 else []
    amounts += [("charge", charge.kind, charge.maintenance, charge.initial) for charge in part.charges]
    if part.spread:
        amounts.append(("charge", "spreads", part.spread, part.spread))
    return [_Line(kind, item, price * needed * figures.counts, price * more) for kind, item, needed, more in amounts]


def _name(part: GroupPart, table: ScenarioTable) -> str:
    """Underlyings of a group, and the scenario that sets its loss."""
    underlyings = table.instruments.underlyings
    names = [underlyings[u] for u in table.model.groups_of(underlyings)[part.group].members]
    scenarios = [scenario.name for scenario in table.model.rows]
    return f"{', '.join(names)}: {[*scenarios, 'basis', 'no loss'][part.worst]}"
