"""What activity has done: its events and fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..boundary import as_html, counted, frame_as_html, natural
from ..kernels import activity as kernels
from ..record import events_frame, to_frame
from ..state import Accounts, average_prices
from .actions import NAMES
from .carry import CarriedOut


@dataclass(frozen=True, repr=False)
class ActivityResult:
    """The result of `Engine.apply`.

    Attributes
    ----------
    done : CarriedOut
        What was carried out, in whole numbers.
    accounts : Accounts
        The engine's accounts, which go on with it.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> engine = rc.Engine(accounts, venue)
    >>> result = engine.apply(
    ...     [
    ...         {"action": "deposit", "account": 1, "asset": "USDC", "quantity": 50.0},
    ...         {"action": "fill", "account": 1, "market": market, "quantity": -2.0, "price": 203.0},
    ...     ],
    ...     check="off",
    ... )
    >>> result, len(result)
    (ActivityResult(1 fill, 1 deposit), 2)
    >>> result.fills[["quantity", "realized_pnl", "position", "entry_price"]].to_dict("records")
    [{'quantity': -2.0, 'realized_pnl': 6.0, 'position': 8.0, 'entry_price': 200.0}]
    """

    done: CarriedOut
    accounts: Accounts

    def __len__(self) -> int:
        """Return the number of actions."""
        return len(self.done.actions.matrix)

    def __repr__(self) -> str:
        """One line: the number of actions of each kind."""
        counts = np.bincount(self.done.actions.matrix[:, kernels.KIND], minlength=len(NAMES)).tolist()
        kinds = [counted(count, name) for name, count in zip(NAMES, counts, strict=True) if count]
        return f"ActivityResult({', '.join(kinds) or 'nothing'})"

    def _repr_html_(self) -> str:
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.events, 20)}"

    @property
    def events(self) -> pd.DataFrame:
        """Events in order, as of `StepResult.events`."""
        return events_frame(self.done.rows, self.done.venue, self.accounts)

    @property
    def raw_events(self) -> pd.DataFrame:
        """The whole numbers of the journal alone, as of `StepResult.raw_events`."""
        return to_frame(self.done.rows, self.done.venue, self.accounts)

    @property
    def fills(self) -> pd.DataFrame:
        """Fills in order, in natural units.

        Columns: account, market, quantity (signed), price, fee, realized_pnl (against the entry price, the fee not
        counted), both in units of the market's settle asset, position (quantity after the fill) and entry_price (of
        that position, NaN without one).
        """
        done, venue = self.done, self.done.venue
        kind = done.written[:, kernels.R_KIND]
        written = done.written[(kind == kernels.FILL) | (kind == kernels.CONFIRM)]
        action = written[:, kernels.R_ACTION]
        asked = done.actions.matrix[action]
        market, lots = asked[:, kernels.ITEM], written[:, kernels.R_HELD]
        settle = venue.markets.settle[market]
        realized = asked[:, kernels.FLOW] + written[:, kernels.R_ENTRY]
        has_position = lots != 0
        entry = np.full(len(lots), np.nan)
        held = written[has_position]
        entry[has_position] = average_prices(
            venue.units, held[:, kernels.R_HELD_ENTRY], held[:, kernels.R_HELD], market[has_position]
        )
        return pd.DataFrame(
            {
                "account": self.accounts.ids[asked[:, kernels.ACCOUNT]],
                "market": np.array(venue.markets.symbol, object)[market],
                "quantity": venue.markets.quantity(written[:, kernels.R_LOTS], market),
                "price": done.actions.price[action],
                "fee": natural(asked[:, kernels.FEE], venue.assets.quantum, settle),
                "realized_pnl": natural(realized, venue.assets.quantum, settle),
                "position": venue.markets.quantity(lots, market),
                "entry_price": entry,
            }
        )
