"""Guards: worked numbers, every link of the chain, and a second-by-second model beside the streaming one."""

import io
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore import RiskDataError, Tick, cross_venue_index, load_venue
from riskcore.market import Prices, asset_values
from riskcore.market.guards import BAND_NAMES, NO_BAND, REASONS, GuardState, Refusal, bands, guard

BTC, SOL, SPOT = "BTC_USDC_PERP", "SOL_USDC_PERP", "SOL_USDC"
SECOND = 10**9
NONE = -(2**63)
CAPS = {"minPriceUpdateMultiplier": "0.9975", "maxPriceUpdateMultiplier": "1.0025"}
BANDS = {
    "minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01", "minMultiplier": "0.25", "maxMultiplier": "2",
    "meanMarkPriceBand": {"minMultiplier": "0.96", "maxMultiplier": "1.04"},
    "meanPremiumBand": {"tolerancePct": "0.05"},
}  # fmt: skip
E4 = {
    "bids": [(86781.4, 2.20229), (86779.8, 0.00115), (86779.7, 0.23172), (86779.6, 0.16803), (86777.7, 0.03571)],
    "asks": [(86781.5, 5.54115), (86783.3, 1.22656), (86786.0, 0.00237), (86786.1, 0.00081), (86786.2, 2.09075)],
}


def row(symbol, base, tick, step, kind="PERP", **price):
    margin = {"type": "sqrt", "base": "0.02", "factor": "0.0001"}
    return {
        "symbol": symbol, "baseSymbol": base, "quoteSymbol": "USDC", "marketType": kind,
        "filters": {"price": {"tickSize": tick} | price, "quantity": {"stepSize": step}},
        "imfFunction": margin, "mmfFunction": margin,
    }  # fmt: skip


def make_venue(price=None, policy=None, spot=None):
    identity = {"weight": "1", "kind": {"type": "identity"}}
    price = price or {}
    return load_venue(
        {
            "settle_asset": "USDC",
            "markets": [
                row(SPOT, "SOL", "0.01", "0.001", "SPOT", **(spot or {})),
                row(BTC, "BTC", "0.1", "0.00001", **price),
                row(SOL, "SOL", "0.01", "0.01", **price),
            ],
            "collateral": [{"symbol": asset, "haircutFunction": identity} for asset in ("USDC", "SOL")],
            "policy": policy or {},
        }
    )


class Run:
    """Ticks of BTC through the guards, times in seconds."""

    def __init__(self, price=None, policy=None, spot=None):
        self.venue = make_venue(price, policy, spot)
        self.guard_state, self.before = GuardState.opening(self.venue), None

    def tick(self, seconds, mark=None, index=None, last=None, book=None, seen=None, **more):
        time = round(seconds * SECOND)
        given = {name: {} if value is None else {BTC: value} for name, value in
                 (("marks", mark), ("indexes", index), ("last_prices", last), ("books", book))}  # fmt: skip
        given["book_times"] = {} if seen is None else {BTC: round(seen * SECOND)}
        for name, values in more.items():
            given[name] = given.get(name, {}) | values
        tick = Tick(time, **given)
        self.prices = Prices.incomplete(self.venue, tick)
        done = guard(
            self.venue, self.guard_state, self.before, time, self.prices, tick.columnar_books(self.venue, time)
        )
        self.guard_state, self.before = done.guard_state, time
        return done

    def bands(self, done, asset=None):
        """Bound in natural units and name of the binding band, by market and side."""
        used = Prices(
            **{
                name: getattr(self.prices, name)
                for name in Prices.__dataclass_fields__
                if name not in ("mark", "index", "asset")
            },
            mark=done.mark,
            index=done.index,
            asset=asset_values(self.venue, done.mark, done.index, self.prices.given_asset) if asset is None else asset,
        )
        bound, code = bands(self.venue, self.guard_state, used, done.books)
        found = {}
        for b, symbol in enumerate(self.venue.book_symbols):
            tick = self.venue.listing.tick[b]
            for side, name in enumerate(("bid", "ask")):
                if bound[2 * b + side] not in (0, NO_BAND):
                    found[symbol, name] = float(bound[2 * b + side] * tick), BAND_NAMES[code[2 * b + side]]
        return found


def reasons(done):
    return [refusal.reason for refusal in done.refusals]


class TestBands:
    def test_the_example_of_the_rules(self):
        run = Run(BANDS)
        found = run.bands(run.tick(0, mark=86_700.0, index=86_700.0, book=E4))
        # 85,913.586 and 87,649.315, in whole ticks inside
        assert found == {(BTC, "bid"): (85_913.6, "impact"), (BTC, "ask"): (87_649.3, "impact")}

    @pytest.mark.parametrize(
        ("name", "bid", "ask"),
        [
            ("mean_mark", 83_232.0, 90_168.0),
            ("mean_premium", 82_365.0, 91_035.0),
            ("limit", 21_695.4, 173_562.9),  # around the median of bid, ask: 86,781.45
        ],
    )
    def test_each_alone(self, name, bid, ask):
        keys = {
            "mean_mark": ["meanMarkPriceBand"], "mean_premium": ["meanPremiumBand"],
            "limit": ["minMultiplier", "maxMultiplier"],
        }[name]  # fmt: skip
        run = Run({key: BANDS[key] for key in keys})
        found = run.bands(run.tick(0.5, mark=86_700.0, index=86_700.0, book=E4))
        assert found == {(BTC, "bid"): (bid, name), (BTC, "ask"): (ask, name)}

    @pytest.mark.parametrize(
        ("tolerance", "premium", "side", "edge"),
        [("0.01", 0.03, "ask", 104.0), ("0.01", -0.03, "bid", 96.0), ("0.05", 0.05, "ask", 110.0)],
    )
    def test_the_premium_examples(self, tolerance, premium, side, edge):
        run = Run({"meanPremiumBand": {"tolerancePct": tolerance}})
        for second in range(400):
            done = run.tick(
                second, mark=100 * (1 + premium), index=100.0, book={"bids": [(99.0, 1)], "asks": [(101.0, 1)]}
            )
        assert run.bands(done)[BTC, side] == (edge, "mean_premium")

    def test_the_last_price_makes_the_limit_price_a_median(self):
        run = Run({"minMultiplier": "0.5", "maxMultiplier": "2"})
        book = {"bids": [(90.0, 1)], "asks": [(110.0, 1)]}
        for last, active in ((None, 100.0), (95.0, 95.0), (120.0, 110.0), (10.0, 90.0)):
            done = run.tick((run.before or 0) / SECOND + 1, mark=100.0, last=last, book=book)
            assert run.bands(done) == {(BTC, "bid"): (active / 2, "limit"), (BTC, "ask"): (active * 2, "limit")}
        done = run.tick(10, mark=100.0, book={"bids": book["bids"]})
        assert run.bands(done) == {(BTC, "bid"): (45.0, "limit")}

    def test_the_first_named_of_a_tie(self):
        same = {"minImpactMultiplier": "0.99", "maxImpactMultiplier": "1.01"}
        run = Run(same | {"meanMarkPriceBand": {"minMultiplier": "0.9900001", "maxMultiplier": "1.01"}})
        book = {"bids": [(99.9, 1)], "asks": [(100.1, 1)]}
        found = run.bands(run.tick(0, mark=99.9, book=book))  # 98.901 and 98.90100999 are one tick
        assert found == {(BTC, "bid"): (99.0, "impact"), (BTC, "ask"): (100.8, "mean_mark")}

    def test_without_a_figure_or_a_level_there_is_none(self):
        run = Run()
        assert run.bands(run.tick(0, mark=100.0, index=100.0, book=E4)) == {}
        run = Run(BANDS)
        assert run.bands(run.tick(0, mark=100.0, index=100.0)) == {}

    def test_a_market_that_nobody_marks(self):
        run = Run(BANDS)
        found = run.bands(run.tick(0, book=E4))
        assert found == {(BTC, "bid"): (85_913.6, "impact"), (BTC, "ask"): (87_649.3, "impact")}

    def test_a_premium_so_low_that_nothing_may_be_bought(self):
        run = Run({"meanPremiumBand": {"tolerancePct": "0"}})
        run.tick(0, mark=1e-1, index=1_000.0)  # clamped to 950
        done = run.tick(0.5, mark=950.0, index=1_000.0, book={"bids": [(949.0, 1)], "asks": [(951.0, 1)]})
        assert run.bands(done) == {(BTC, "bid"): (950.0, "mean_premium"), (BTC, "ask"): (950.0, "mean_premium")}

    def test_a_spot_book(self):
        spot = {
            "minImpactMultiplier": "0.9",
            "maxImpactMultiplier": "1.1",
            "minMultiplier": "0.5",
            "maxMultiplier": "2",
        }
        run = Run(spot=spot, policy={"conversion_slippage": "0.02"})
        book = {SPOT: {"bids": [(100.0, 1)], "asks": [(101.0, 2)]}}
        done = run.tick(0, books=book, marks={SOL: 100.0})
        found = run.bands(done)
        assert found == {(SPOT, "bid"): (98.0, "conversion"), (SPOT, "ask"): (102.0, "conversion")}
        assert run.bands(done, asset=np.array([1.0, 90.0])) == {
            (SPOT, "bid"): (90.0, "impact"), (SPOT, "ask"): (91.8, "conversion"),
        }  # fmt: skip
        assert run.bands(done, asset=np.array([1.0, np.nan]))[SPOT, "ask"] == (111.1, "impact")


class TestMark:
    BOOK = {"bids": [(99.0, 1)], "asks": [(103.0, 1)]}  # noqa: RUF012

    def test_as_given(self):
        done = Run().tick(0, mark=101.5, index=100.0, last=90.0, book=self.BOOK)
        assert done.mark[0] == 101.5
        assert np.isnan(done.mark[1])
        assert done.refusals == []

    def test_index_and_ewma(self):
        run = Run()
        assert run.tick(0, index=100.0, book=self.BOOK).mark[0] == 101.0  # e = mid - index = 1
        e = 1 + (1 - math.exp(-3 / 60)) * ((101.0 - 102.0) - 1)
        assert run.tick(3, index=102.0, book=self.BOOK).mark[0] == 102.0 + e
        # no book: e is as old as stale_after allows, and then forgotten
        assert run.tick(63, index=102.0).mark[0] == 102.0 + e
        assert run.tick(63.001, index=102.0).mark[0] == 102.0
        # it is still where the next one begins
        e += (1 - math.exp(-97 / 60)) * ((101.0 - 100.0) - e)
        assert run.tick(100, index=100.0, book=self.BOOK).mark[0] == 100.0 + e

    def test_index(self):
        assert Run().tick(0, index=100.0, last=90.0, book={"bids": [(99.0, 1)]}).mark[0] == 100.0

    @pytest.mark.parametrize(("last", "mark"), [(90.0, 99.0), (100.0, 100.0), (120.0, 103.0)])
    def test_median_of_bid_ask_and_last(self, last, mark):
        assert Run().tick(0, last=last, book=self.BOOK).mark[0] == mark

    def test_mid(self):
        assert Run().tick(0, book=self.BOOK).mark[0] == 101.0

    @pytest.mark.parametrize("book", [None, {"bids": [(99.0, 1)]}, {"asks": [(99.0, 1)]}])
    def test_last(self, book):
        assert Run().tick(0, last=90.0, book=book).mark[0] == 90.0

    def test_held_and_then_gone(self):
        run = Run({**CAPS}, {"stale_after": "1.5"})
        run.tick(0, mark=100.0)
        for second in (1, 1.5):  # the time counts from when it was had, not from when it was held
            done = run.tick(second)
            assert done.mark[0] == 100.0
            assert done.refusals == [Refusal("mark_held", 0, pytest.approx(math.nan, nan_ok=True))]
        done = run.tick(1.6)
        assert np.isnan(done.mark[0])
        assert done.refusals == []
        # the cap counts from there too: 10 seconds
        done = run.tick(10, mark=200.0)
        assert done.mark[0] == 100 * 1.0025**10
        assert [tuple(r[:3]) for r in done.refusals] == [("update_cap", 0, 200.0)]

    def test_nothing_at_all(self):
        done = Run(BANDS | CAPS).tick(0)
        assert np.isnan(done.mark).all()
        assert done.refusals == []


class TestClamps:
    @pytest.mark.parametrize(
        ("mark", "counts"), [(94.0, 95.0), (95.0, 95.0), (99.0, 99.0), (105.0, 105.0), (110.0, 105.0)]
    )
    def test_the_example_of_the_rules(self, mark, counts):
        done = Run().tick(0, mark=mark, index=100.0)
        assert done.mark[0] == counts
        assert [tuple(r[:3]) for r in done.refusals] == ([("index_clamp", 0, mark)] if mark != counts else [])

    def test_two_per_cent_need_eight_seconds(self):
        run = Run(CAPS)
        run.tick(0, mark=100.0)
        found = [run.tick(second, mark=102.0) for second in range(1, 10)]
        assert [done.mark[0] == 102.0 for done in found] == [False] * 7 + [True] * 2
        assert [reasons(done) for done in found] == [["update_cap"]] * 7 + [[]] * 2
        assert found[0].mark[0] == 100 * 1.0025

    def test_the_cap_of_several_seconds_and_of_a_part_of_one(self):
        run = Run(CAPS)
        run.tick(0, mark=100.0)
        assert run.tick(3.9, mark=1.0).mark[0] == 100 * 0.9975**3
        assert run.tick(4, mark=1.0).mark[0] == 100 * 0.9975**3 * 0.9975

    def test_one_side_alone(self):
        run = Run({"maxPriceUpdateMultiplier": "1.01"})
        run.tick(0, mark=100.0)
        assert run.tick(1, mark=1.0).mark[0] == 1.0
        assert run.tick(2, mark=50.0).mark[0] == 1.01

    def test_an_age_passes_and_everything_goes(self):
        run = Run(CAPS)
        run.tick(0, mark=100.0)
        done = run.tick(1e9, mark=1e-3)  # 1.0025 ** 10**9 is no float
        assert done.mark[0] == 1e-3

    def test_an_index_that_goes_mad(self):
        run = Run(CAPS)
        run.tick(0, mark=100.0, index=100.0)
        done = run.tick(1, mark=100.0, index=1e-9)
        assert done.index[0] == 100 * 0.9975
        assert done.mark[0] == 100.0
        assert [tuple(r[:3]) for r in done.refusals] == [("index_update_cap", 0, 1e-9)]
        # without a cap the mark is pulled along, one step a tick
        run = Run()
        run.tick(0, mark=100.0, index=100.0)
        done = run.tick(1, mark=100.0, index=50.0)
        assert (done.mark[0], done.index[0]) == (50 * 1.05, 50.0)
        assert [tuple(r[:3]) for r in done.refusals] == [("index_clamp", 0, 100.0)]

    def test_clamp_and_cap_both(self):
        run = Run(CAPS)
        run.tick(0, mark=100.0)
        done = run.tick(1, mark=100.0, index=200.0)
        assert done.mark[0] == 100 * 1.0025
        assert [tuple(r[:3]) for r in done.refusals] == [("index_clamp", 0, 100.0), ("update_cap", 0, 190.0)]

    def test_a_mark_too_large_for_a_sample(self):
        with pytest.raises(
            RiskDataError, match=rf"marks.{BTC}, value 1000000000000.0: must be less than 10\*\*13 ticks"
        ):
            Run().tick(0, mark=1e12)
        assert Run().tick(0, mark=9.99e11).guard_state.total[0, 0] == 9.99e15

    def test_an_index_too_small_for_a_premium(self):
        run = Run({"minPriceUpdateMultiplier": "1"})
        run.tick(0, mark=100.0)
        with pytest.raises(
            RiskDataError, match=rf"indexes.{BTC}, value 0.001: must be more than 1/10\*\*4 of the mark"
        ):
            run.tick(1, mark=100.0, index=1e-3)


class TestBooks:
    BOOK = {"bids": [(99.0, 1), (98.0, 2)], "asks": [(103.0, 1)]}  # noqa: RUF012

    def test_stale(self):
        run = Run()
        done = run.tick(60, book=self.BOOK, seen=0.5)
        assert done.mark[0] == 101.0
        done = run.tick(61, mark=100.0, book=self.BOOK, seen=0.999)
        assert reasons(done) == ["stale_book"]
        assert np.isnan(done.refusals[0].price)
        assert not done.books.price.size
        assert np.isnan(done.guard_state.index[0])
        assert run.tick(62, book=self.BOOK, seen=1).mark[0] == 100.0  # held

    @pytest.mark.parametrize("ask", [99.0, 98.5])
    def test_crossed(self, ask):
        run = Run()
        book = {"bids": self.BOOK["bids"], "asks": [(ask, 1)]}
        done = run.tick(0, index=100.0, book=book, books={SOL: self.BOOK, SPOT: book})
        assert [(r.reason, r.book) for r in done.refusals] == [("crossed_book", 0), ("crossed_book", 2)]
        assert done.mark.tolist() == [100.0, 101.0]
        assert done.books.offset.tolist() == [0, 0, 0, 2, 3, 3, 3]

    def test_by_market_then_reason(self):
        run = Run(CAPS, {"stale_after": 1})
        both = {name: {BTC: 100.0, SOL: 100.0} for name in ("marks", "indexes")}
        run.tick(0, **both)
        crossed = {"bids": [(99.0, 1)], "asks": [(98.0, 1)]}
        done = run.tick(
            1.5, marks={BTC: 200.0, SOL: 200.0}, indexes={BTC: 200.0, SOL: 100.0},
            books={BTC: crossed, SOL: crossed}, book_times={SOL: SECOND // 10, BTC: SECOND},
        )  # fmt: skip
        assert [(r.book, r.reason) for r in done.refusals] == [
            (0, "crossed_book"), (0, "index_update_cap"), (0, "update_cap"), (1, "stale_book"), (1, "index_clamp"),
            (1, "update_cap"),
        ]  # fmt: skip


class TestRefill:
    POLICY = {"refill_half_life": "2"}  # noqa: RUF012
    BOOK = {"bids": [(99.0, 8e-5), (98.0, 1e-5)], "asks": [(103.0, 1e-5)]}  # noqa: RUF012

    def taken(self, run, done, *lots):
        run.guard_state.book_memory.record(done.books.lots - np.array(lots))

    def test_levels_come_back(self):
        run = Run(policy=self.POLICY)
        done = run.tick(0, mark=100.0, book=self.BOOK)
        assert done.books.lots.tolist() == [8, 1, 1]
        self.taken(run, done, 8, 1, 0)
        done = run.tick(1, mark=100.0, book=self.BOOK)  # floor(8 / sqrt 2) = 5 are gone, of the one none
        assert done.books.lots.tolist() == [3, 1, 1]
        self.taken(run, done, 3, 0, 1)
        done = run.tick(1.5, mark=100.0)  # no level: goes on. floor(8 * 0.84) = 6
        assert done.books.lots.tolist() == [2, 1, 1]
        self.taken(run, done, 2, 1, 0)
        done = run.tick(1.5001, mark=100.0, book=self.BOOK)  # floor of almost 8
        assert done.books.price.tolist() == [990, 980, 1030]
        assert done.books.lots.tolist() == [1, 1, 1]

    def test_empty_levels_are_not_there(self):
        run = Run(policy=self.POLICY)
        done = run.tick(0, mark=100.0, book={"bids": [(99.0, 1e-3), (98.0, 1e-5)]})
        self.taken(run, done, 100, 1)
        done = run.tick(0, mark=100.0)  # no time has passed
        assert done.books.offset.tolist() == [0] * 7
        assert not done.books.price.size
        done = run.tick(1e-9, mark=100.0)
        assert done.books.price.tolist() == [990, 980]  # floored: one lot is back at once
        assert done.books.lots.tolist() == [1, 1]

    def test_another_book_begins_anew(self):
        run = Run(policy=self.POLICY)
        both = {SOL: {"bids": [(99.0, 0.05)]}}
        done = run.tick(0, mark=100.0, book=self.BOOK, books=both)
        self.taken(run, done, 4, 0, 0, 4)
        other = self.BOOK | {"asks": [(103.0, 2e-5)]}
        done = run.tick(2, mark=100.0, book=other, books=both)
        assert done.books.lots.tolist() == [8, 1, 2, 3]

    def test_a_refused_book_is_none_and_forgets_the_one_before(self):
        run = Run(policy=self.POLICY)
        done = run.tick(0, mark=100.0, book=self.BOOK)
        self.taken(run, done, 8, 0, 0)
        done = run.tick(2, mark=100.0, book={"bids": [(99.0, 1)], "asks": [(90.0, 1)]})
        assert reasons(done) == ["crossed_book"]
        assert done.books.lots.tolist() == []
        assert run.tick(3, mark=100.0).books.lots.tolist() == []
        assert run.tick(4, mark=100.0, book=self.BOOK).books.lots.tolist() == [8, 1, 1]

    def test_nothing_changes_before_the_engine_commits(self):
        run = Run(policy=self.POLICY)
        first = run.tick(0, mark=100.0, book=self.BOOK)
        kept = {name: frame.copy() for name, frame in run.guard_state.frames().items()}
        guard_state = run.guard_state
        second = run.tick(0, mark=50.0)
        self.taken(run, second, 1, 1, 1)
        run.tick(500, mark=50.0)
        for name, frame in guard_state.frames().items():
            pd.testing.assert_frame_equal(frame, kept[name])
        assert first.guard_state is guard_state

    def test_without_it_nothing_is_remembered(self):
        run = Run()
        done = run.tick(0, mark=100.0, book=self.BOOK)
        self.taken(run, done, 8, 0, 0)
        assert not run.tick(1, mark=100.0).books.lots.size
        assert run.tick(1, mark=100.0, book=self.BOOK).books.lots.tolist() == [8, 1, 1]
        kept = run.guard_state.frames()["books"]  # for the clock
        assert kept[["lots", "consumed_lots", "decay_time"]].to_numpy().tolist() == [[n, 0, SECOND] for n in (8, 1, 1)]


class Model:
    """One market, as the page says it: a list of the samples of every second."""

    def __init__(self, venue, market):
        self.markets, self.policy, self.m = venue.markets, venue.policy, market
        self.tick_size = float(venue.markets.tick[market])
        self.mark = self.index = self.e = None
        self.seconds, self.used = {}, []

    def tick(self, time, mark, index, last, bid, ask):
        refused = []
        stale = float(self.policy.stale_after)
        if bid is not None and ask is not None and ask <= bid:
            refused.append(("crossed_book", None))
            bid = ask = None
        bid, ask = (None if side is None else self.tick_size * side for side in (bid, ask))
        mid = None if bid is None or ask is None else (bid + ask) / 2
        if index is not None:
            index = self.cap(index, self.index, time, refused, "index_update_cap")
            if mid is not None:
                if self.e is None:
                    self.e = mid - index, time
                else:
                    e, since = self.e
                    self.e = e + (1 - math.exp(-((time - since) / 1e9) / 60)) * ((mid - index) - e), time
        if mark is None:
            if index is not None:
                mark = index + self.e[0] if self.e and time - self.e[1] <= stale * 1e9 else index
            elif mid is not None and last is not None:
                mark = sorted([bid, ask, last])[1]
            else:
                mark = last if mid is None else mid
        had = mark is not None
        if had:
            if index is not None:
                t = float(self.policy.mark_index_threshold)
                if not any(reason == "index_update_cap" for reason, *_ in refused):
                    mark = self.clamp(mark, index * (1 - t), index * (1 + t), refused, "index_clamp")
            mark = self.cap(mark, self.mark, time, refused, "update_cap")
        elif self.mark is not None and time - self.mark[1] <= stale * 1e9:
            mark = self.mark[0]
            refused.append(("mark_held", None))
        if mark is not None:
            premium = None if index is None else round((mark - index) / index * 1e12)
            self.used.append((time, round(mark / self.tick_size * 1e3), premium))
        if had:
            self.mark = mark, time
        if index is not None:
            self.index = index, time
        return mark, index, refused

    def cap(self, value, previous, time, refused, reason):
        if previous is None:
            return value
        n = max(1, (time - previous[1]) // 10**9)
        low, high = (float(column[self.m]) for column in (self.markets.min_update, self.markets.max_update))
        try:
            high = high**n
        except OverflowError:
            high = math.inf
        return self.clamp(value, previous[0] * low**n, previous[0] * high, refused, reason)

    @staticmethod
    def clamp(value, low, high, refused, reason):
        clamped = max(low, min(high, value)) if low == low else value
        if clamped != value:
            refused.append((reason, value))
        return clamped

    def means(self, time):
        """Mean mark and mean premium of a tick that has been seen, from a sample for each of 300 seconds."""
        samples = []
        now = time // 10**9
        for second in range(now - 299, now + 1):
            before = [sample for at, *sample in self.used if at <= second * 10**9]
            samples += before[-1:]
        found = []
        for which in (0, 1):
            known = [s[which] for s in samples if s[which] is not None] or [s[1 + which] for s in self.used[-1:]]
            found.append(None if not known or known[0] is None else Fraction(sum(known), len(known)))
        return found


PRICE = st.floats(90.0, 110.0) | st.sampled_from([100.0, 50.0, 200.0, 1.0])
MAYBE = st.none() | PRICE
SIDE = st.none() | st.integers(950, 1050)
STEP = st.sampled_from([0.25, 0.5, 0.75, 1, 1, 1, 1.25, 7, 59.5, 61, 240, 299, 300, 301, 2000])
TICKS = st.lists(
    st.tuples(STEP, st.lists(st.tuples(MAYBE, MAYBE, MAYBE, SIDE, SIDE), min_size=2, max_size=2)), max_size=12
)


def through(venue, ticks, restart=None):
    """All that comes out of the guards over ticks; ``restart``: put them away and read them back before this one."""
    guard_state, before, time = GuardState.opening(venue), None, 1_000 * SECOND
    for number, (step, rows) in enumerate(ticks):
        if number == restart:
            frames = {}
            for name, frame in guard_state.frames().items():
                frame.to_parquet(file := io.BytesIO())
                frames[name] = pd.read_parquet(file)
            guard_state = GuardState.from_frames(venue, frames, time)
        time += round(step * SECOND)
        column = [dict(zip((BTC, SOL), values, strict=True)) for values in zip(*rows, strict=True)]
        marks, indexes, lasts, bids, asks = ({s: v for s, v in c.items() if v is not None} for c in column)
        size = dict(zip((BTC, SOL), venue.markets.tick_size.tolist(), strict=True))
        books = {
            s: {name: [(side[s] * size[s], 1)] for name, side in (("bids", bids), ("asks", asks)) if s in side}
            for s in (BTC, SOL)
        }
        tick = Tick(time, marks, books, indexes, last_prices=lasts)
        done = guard(venue, guard_state, before, time, Prices.incomplete(venue, tick), tick.columnar_books(venue, time))
        yield time, rows, done
        guard_state, before = done.guard_state, time
        guard_state.book_memory.record(done.books.lots // 3)


def nan(value):
    return math.nan if value is None else value


@given(TICKS, st.booleans())
@settings(max_examples=300)
def test_the_stream_equals_the_list(ticks, capped):
    venue = make_venue(CAPS if capped else {}, {"stale_after": 60})
    models = [Model(venue, m) for m in range(2)]
    for time, rows, done in through(venue, ticks):
        refusals = []
        for m, (model, values) in enumerate(zip(models, rows, strict=True)):
            mark, index, refused = model.tick(time, *values)
            np.testing.assert_array_equal([done.mark[m], done.index[m]], [nan(mark), nan(index)])
            order = sorted(refused, key=lambda pair: REASONS.index(pair[0]))
            refusals += [(reason, m, nan(price)) for reason, price in order]
            means = model.means(time)
            assert [done.guard_state._mean(which, m) for which in (0, 1)] == means
        assert repr([tuple(r[:3]) for r in done.refusals]) == repr(refusals)
        runs = done.guard_state.frames()["samples"].query("market == 0")[["second", "count"]].to_numpy().tolist()
        seconds = [second + s for second, count in runs for s in range(count)]
        assert len(seconds) == len(set(seconds)) <= 300


@given(TICKS.filter(len), st.data(), st.booleans())
@settings(max_examples=100)
def test_a_restart_changes_no_bit(ticks, data, refilling):
    venue = make_venue(BANDS | CAPS, {"refill_half_life": 30} if refilling else {})
    restart = data.draw(st.integers(0, len(ticks) - 1))
    for (time, _, straight), (_, _, resumed) in zip(through(venue, ticks), through(venue, ticks, restart), strict=True):
        assert time
        assert repr(straight.refusals) == repr(resumed.refusals)
        for name in ("mark", "index"):
            assert getattr(straight, name).tobytes() == getattr(resumed, name).tobytes()
        for name in ("offset", "price", "lots"):
            np.testing.assert_array_equal(getattr(straight.books, name), getattr(resumed.books, name))
        for name, frame in straight.guard_state.frames().items():
            pd.testing.assert_frame_equal(frame, resumed.guard_state.frames()[name], check_exact=True)
        for name in ("total", "count"):
            np.testing.assert_array_equal(getattr(straight.guard_state, name), getattr(resumed.guard_state, name))


def test_a_day_of_seconds_does_not_drift():
    run = Run(BANDS)
    rng = np.random.default_rng(0)
    marks = np.round(1e5 * np.exp(np.cumsum(rng.normal(0, 1e-4, 3_000))), 1)
    for second, mark in enumerate(marks.tolist()):
        run.tick(second, mark=mark, index=mark)
    kept = np.rint(marks / 0.1 * 1e3).astype(np.int64)[-300:]
    assert run.guard_state.total[0, 0] == kept.sum()
    assert run.guard_state.count[0, 0] == 300
    assert len(run.guard_state.frames()["samples"]) == 300


DAY = "2025-10-10"


class TestCrossVenueIndex:
    def quotes(self, *rows):
        return pd.DataFrame(rows, columns=["time", "market", "source", "bid", "ask", "last"])

    def test_one_mad_source(self):
        quotes = self.quotes(
            (DAY, BTC, "a", 99.0, 101.0, 100.0), (DAY, BTC, "b", 99.0, 101.0, 90.0), (DAY, BTC, "c", 1.0, 3.0, 2.0),
        )  # fmt: skip
        found = cross_venue_index(quotes)
        # 100, 99 and 2, which counts as 99 less 100 bp; 100 is 99 and 100 bp at most
        assert found.columns.tolist() == ["time", "market", "index_price"]
        assert found["index_price"].tolist() == pytest.approx([(99.99 + 99 + 98.01) / 3])
        wide = cross_venue_index(quotes, max_deviation=9_999)
        assert wide["index_price"].tolist() == pytest.approx([(100 + 99 + 2) / 3])

    @pytest.mark.parametrize("deviation", [-1, -1e-9, np.nan, np.inf, -np.inf])
    def test_a_deviation_that_is_no_number_of_basis_points(self, deviation):
        quotes = self.quotes((DAY, BTC, "a", 99.0, 101.0, 100.0))
        with pytest.raises(RiskDataError) as refused:
            cross_venue_index(quotes, max_deviation=deviation)
        assert str(refused.value) == f"max_deviation, value {deviation}: must be a number of basis points >= 0"

    def test_a_deviation_of_nothing_is_the_median(self):
        quotes = self.quotes(*((DAY, BTC, name, p, p, p) for name, p in (("a", 100.0), ("b", 101.0), ("c", 7.0))))
        assert cross_venue_index(quotes, max_deviation=0)["index_price"].tolist() == [100.0]

    def test_weights(self):
        quotes = self.quotes((DAY, BTC, "a", 100.0, 100.0, 100.0), (DAY, BTC, "b", 101.0, 101.0, 101.0))
        assert cross_venue_index(quotes, {"a": 3, "b": 1, "c": 5})["index_price"].tolist() == [100.25]
        for weights in ({"a": 1}, {"a": 1, "b": 0}, {"a": 1, "b": np.nan}, {"a": 1, "b": "much"}):
            with pytest.raises(RiskDataError, match=r"quotes.source, row 1, value 'b': must have a weight > 0"):
                cross_venue_index(quotes, weights)

    def test_what_is_not_known(self):
        quotes = self.quotes(
            ("2025-10-10T21:00:00Z", SOL, "a", 100.0, np.nan, np.nan),
            ("2025-10-10T21:00:00Z", BTC, "a", 100.0, 102.0, np.nan),
            ("2025-10-10T21:00:00Z", BTC, "b", np.nan, np.nan, np.nan),
            ("2025-10-10T20:59:00Z", BTC, "b", np.nan, np.nan, 99.0),
        )
        found = cross_venue_index(quotes)
        start = pd.Timestamp("2025-10-10T21:00:00Z").value
        assert found["time"].tolist() == [start - 60 * SECOND, start, start]
        assert found["market"].tolist() == [BTC, BTC, SOL]
        assert found["index_price"].tolist() == [99.0, 101.0, 100.0]

    def test_milliseconds(self):
        quotes = self.quotes((1_760_130_000_000, BTC, "a", 99.0, 101.0, 100.0))
        found = cross_venue_index(quotes, unit="ms")
        assert found["time"].tolist() == [1_760_130_000_000_000_000]
        with pytest.raises(
            RiskDataError, match=r'quotes.time, row 0, value .* looks like milliseconds: pass unit="ms"'
        ):
            cross_venue_index(quotes)

    def test_a_source_twice(self):
        quotes = self.quotes((DAY, BTC, "a", 100.0, 100.0, 100.0), (DAY, BTC, "a", 101.0, 101.0, 101.0))
        with pytest.raises(RiskDataError, match=r"quotes.time\+market\+source, row 1"):
            cross_venue_index(quotes)
