"""Reading of replies, shared by the modules of venues: rows, exact arithmetic, and checks of totals and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ...boundary import RiskDataError, Row
from ...venue import Venue

DIGITS = 40
"""Of the arithmetic on the amounts of a reply."""


class CamelRow(Row, rename="camel"):
    """Part of a reply whose keys are in camel case."""


def perpetuals(venue: Venue) -> dict[str, dict[str, Any]]:
    """Copies of the rows of the venue's perpetual markets, by symbol."""
    return {row["symbol"]: dict(row) for row in venue.source["markets"] if row["marketType"] == "PERP"}


def rounding_slack(amounts: tuple[Decimal, ...], last_digit: Decimal, relative: Decimal) -> Decimal:
    """Difference between a sum of rounded amounts and its total that rounding explains.

    Parameters
    ----------
    amounts
        Parts of the sum.
    last_digit
        Unit of the last digit of an amount.
    relative
        Part of the amounts' size by which the venue's own arithmetic may be off.
    """
    return last_digit * (len(amounts) + 2) + sum(map(abs, amounts), Decimal(0)) * relative


def check_total(table: str, path: str, total: Decimal | None, expected: Decimal, slack: Decimal, what: str) -> None:
    """Refuse a total of a reply that differs from the sum of its rows.

    Parameters
    ----------
    table, path
        Where the total stands.
    total
        As sent; None if the reply has none.
    expected
        The total that the rows give.
    slack
        Largest difference of the two.
    what
        Parts of the total, and the probable cause of a difference, for the message.

    Raises
    ------
    RiskDataError
        They are further apart; the message has both.
    """
    if total is not None and abs(total - expected) > slack:
        raise RiskDataError(table, path, f"must be {expected:f}, {what}", value=f"{total:f}")


def exact_price(table: str, name: str, price: object) -> Decimal:
    """Return a price that a user passes beside the payloads, exactly as written.

    Raises
    ------
    RiskDataError
        It is not a number > 0.
    """
    try:
        number = Decimal(str(price))
    except ArithmeticError:
        raise RiskDataError(table, name, "must be a number", value=str(price)) from None
    if not (number.is_finite() and number > 0):
        raise RiskDataError(table, name, "must be a finite number > 0", value=str(price))
    return number
