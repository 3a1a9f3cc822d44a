"""Random activity: actions that fit a state of the exact model, and some that do not."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

from riskcore import reference

KINDS = (
    *["fill"] * 6, *["place"] * 6, *["change"] * 3, "cancel", "cancel", "deposit", "withdraw", "withdraw", "transfer",
    "borrow", "borrow", "repay", "lend", "redeem", "leverage", "open",
)  # fmt: skip
HOST_KINDS = (*KINDS, *["confirm"] * 12)
WORTH = (0.5, 30, 400, 5_000, 60_000)  # settle units


class Scribe:
    """Draws actions as a user writes them, by what a state has."""

    def __init__(
        self, rng: random.Random, venue: reference.Venue, state: reference.State, prices: reference.Prices | None
    ):
        self.rng, self.venue, self.state, self.prices = rng, state.venue or venue, state, prices

    def pick(self, *options: Any) -> Any:
        """One of some options."""
        return self.rng.choice(options)

    def one_in(self, many: int) -> bool:
        """Whether something happens that happens once in so many times."""
        return self.rng.randrange(many) == 0

    def about(self, low: float = 0.5, high: float = 1.5) -> Fraction:
        """A factor in thousandths."""
        return Fraction(self.rng.randint(round(low * 1000), round(high * 1000)), 1000)

    def actions(self, most: int = 6) -> list[dict[str, Any]]:
        """Up to `most` actions; some of them are refused."""
        kinds = HOST_KINDS if self.state.proposals else KINDS
        found = [self.action(self.pick(*kinds)) for _ in range(self.rng.randint(1, most))]
        if self.one_in(12):
            spoiled = self.pick("account", "market", "asset", "order", "quantity", "time", "fee", "owner")
            wrong = {"account": self.unknown(), "quantity": 1e-12, "time": 1, "fee": 1.0, "owner": self.some_id()}
            found[-1] |= {spoiled: wrong.get(spoiled, "Z")}
        return found

    def action(self, kind: str) -> dict[str, Any]:
        """An action of a kind; of another where the account has nothing for it."""
        row = {"action": kind, "account": self.some_id()}
        account = self.state.accounts[row["account"]]
        if kind in ("change", "cancel") and not account.orders:
            kind = row["action"] = "place"
        row |= getattr(self, kind)(account)
        if self.one_in(6):
            row["time"] = max(self.state.time_ns, self.state.acted) + self.pick(0, 1, 10**6)
        return row

    def some_id(self) -> Any:
        """The id of an account."""
        return self.pick(*self.state.accounts)

    def unknown(self) -> Any:
        """An id that no account has."""
        return "nobody" if isinstance(next(iter(self.state.accounts)), str) else 1000

    # -- figures

    def market(self, account: reference.Account) -> reference.Market:
        """A market, mostly one in which the account has a position."""
        held = [symbol for symbol, (lots, *_) in account.positions.items() if lots]
        return self.venue.markets[self.pick(*held, *held, *held, *self.venue.markets)]

    def lots(self, market: reference.Market, held: int) -> int:
        """Lots without sign: of what is held, or worth something."""
        part = self.pick(None, None, 1, Fraction(1, 3), Fraction(3, 2))
        if part is not None and held:
            return max(round(abs(held) * part), 1)
        value = abs(market.lot_value(self.price(market)))
        return max(round(self.pick(*WORTH) * float(self.about()) / float(value)), 1)

    def price(self, market: reference.Market) -> Fraction:
        """A price in whole ticks near the mark."""
        marks = self.prices.marks if self.prices is not None else {}
        near = marks.get(market.symbol, Fraction(market.row["price"])) * self.about(0.97, 1.03)
        return max(math.floor(near / market.tick_size), 1) * market.tick_size

    def fee(self) -> dict[str, Any]:
        return {"fee": float(2 * self.about(-0.1, 1))} if self.one_in(2) else {}

    def amount(self, asset: str, of: int) -> float:
        """A quantity of an asset: of so many quanta, or worth something."""
        quantum = self.venue.assets[asset].quantum
        if of > 0 and self.one_in(2):
            return float(max(round(of * self.pick(1, Fraction(1, 3), Fraction(11, 10))), 1) * quantum)
        price = None if self.prices is None else self.prices.if_known(self.venue, asset)
        return float(self.pick(*WORTH) / float(price or 100) * float(self.about()))

    # -- kinds

    def open(self, _: Any) -> dict[str, Any]:
        ids = list(self.state.accounts)
        new = f"z{len(ids)}" if isinstance(ids[0], str) else 2000 - len(ids)
        row = {"account": new}
        if self.one_in(2):
            row["owner"] = self.some_id()
        return row | ({"leverage_limit": self.pick(1.0, 4.0, 20.0)} if self.one_in(2) else {})

    def fill(self, account: reference.Account) -> dict[str, Any]:
        if account.orders and self.one_in(2):
            order = self.pick(*account.orders)
            market, sign = self.venue.markets[order.market], 1 if order.side == "bid" else -1
            lots = max(order.lots // self.pick(1, 1, 2, 3), 1)
            price = order.price + sign * self.pick(-1, 0, 0, 1) * market.tick_size
            return self.trade(market, sign * lots, price) | {"order": order.id} | self.fee()
        market = self.market(account)
        held = account.positions.get(market.symbol, (0,))[0]
        sign = self.pick(1, -1) if not held else self.pick(1, -1, -1) * (1 if held > 0 else -1)
        return self.trade(market, sign * self.lots(market, held), self.price(market)) | self.fee()

    def trade(self, market: reference.Market, lots: int, price: Fraction) -> dict[str, Any]:
        return {"market": market.symbol, "quantity": float(lots * market.step_size), "price": float(price)}

    def place(self, account: reference.Account) -> dict[str, Any]:
        market = self.market(account)
        held = account.positions.get(market.symbol, (0,))[0]
        side = self.pick("bid", "ask") if not held else self.pick("ask" if held > 0 else "bid", "bid", "ask")
        row = self.trade(market, self.lots(market, held), self.price(market)) | {"side": side}
        if self.one_in(3):
            row["reduce_only"] = self.pick(True, True, True, False)
        return row | ({"order": self.pick("a", "b", 7, 8)} if self.one_in(2) else {})

    def change(self, account: reference.Account) -> dict[str, Any]:
        order = self.pick(*account.orders)
        market, row = self.venue.markets[order.market], {"order": order.id}
        what = self.pick("quantity", "quantity", "price", "both")
        if what != "price":
            held = account.positions.get(market.symbol, (0,))[0]
            lots = self.pick(order.lots, order.lots + 1, max(order.lots // 2, 1), self.lots(market, held))
            row["quantity"] = float(lots * market.step_size)
        return row if what == "quantity" else row | {"price": float(self.price(market))}

    def cancel(self, account: reference.Account) -> dict[str, Any]:
        return {"order": self.pick(*account.orders).id}

    def deposit(self, account: reference.Account) -> dict[str, Any]:
        asset = self.pick(*account.balances, *self.venue.assets)
        return {"asset": asset, "quantity": self.amount(asset, 0)}

    def withdraw(self, account: reference.Account) -> dict[str, Any]:
        asset = self.pick(*account.balances)
        return {"asset": asset, "quantity": self.amount(asset, account.balances[asset][0])}

    lend = withdraw

    def transfer(self, account: reference.Account) -> dict[str, Any]:
        kin = [one for one, other in self.state.accounts.items() if other.owner == account.owner]
        return self.withdraw(account) | {"to_account": self.pick(*kin, *kin, self.some_id())}

    def borrow(self, account: reference.Account) -> dict[str, Any]:
        empty = [asset for asset in self.venue.assets if account.balances.get(asset, (0,))[0] <= 0]
        asset = self.pick(*empty, *empty, *self.venue.assets)
        return {"asset": asset, "quantity": self.amount(asset, 0)}

    def repay(self, account: reference.Account) -> dict[str, Any]:
        owed = [asset for asset, (free, _) in account.balances.items() if free < 0]
        asset = self.pick(*owed, *owed, *account.balances)
        return {"asset": asset, "quantity": self.amount(asset, -account.balances[asset][0])}

    def redeem(self, account: reference.Account) -> dict[str, Any]:
        lent = [asset for asset, (_, quanta) in account.balances.items() if quanta]
        asset = self.pick(*lent, *lent, *account.balances)
        return {"asset": asset, "quantity": self.amount(asset, account.balances[asset][1])}

    def leverage(self, _: Any) -> dict[str, Any]:
        limit = self.pick(None, 1.0, 3.0, 12.5, 40.0)
        return {} if limit is None else {"leverage_limit": limit}

    def confirm(self, _: Any) -> dict[str, Any]:
        (account_id, symbol), proposal = self.pick(*self.state.proposals.items())
        market = self.venue.markets[symbol]
        price = proposal.limit if proposal.limit is not None and self.one_in(2) else self.price(market)
        lots = int(proposal.lots * self.pick(1, 1, Fraction(1, 2), Fraction(1, 3), 2)) or 1
        row = {"account": account_id} | self.trade(market, lots, price)
        if self.one_in(2):
            quantum = self.venue.assets[market.settle].quantum
            due = round(abs(lots * market.lot_value(Fraction(str(float(price))))) / quantum * proposal.rate)
            row["fee"] = float(max(due + self.pick(0, 0, 1, -1, 2), 0) * quantum)
        return row
