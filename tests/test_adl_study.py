"""Deleveraging policies side by side: figures by hand, conservation by equality, run folders, and the real event."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskcore import Accounts, Engine, RiskDataError, io, load_venue, sample
from riskcore.adl_study import generated_event, order_agreement, runs, study, study_run
from riskcore.record import EVENT, reader, run_folder
from riskcore.run import report
from riskcore.venue import POLICIES, adl_policies
from tests import adl_october

QUEUES = [name for name, policy in POLICIES.items() if not policy.shared]
T0 = pd.Timestamp("2025-10-10T21:00:00Z")


def winners(*rows, **more):
    """Rows of account, notional, pnl, equity; the leverage is that of the notional."""
    frame = pd.DataFrame(rows, columns=["account", "notional", "pnl", "equity"])
    return frame.assign(**{"leverage": frame["notional"] / frame["equity"]} | more)


def requests(*rows, **more):
    """Rows of seconds after the start, notional, deficit."""
    frame = pd.DataFrame(rows, columns=["time", "notional", "deficit"])
    return frame.assign(time=T0 + pd.to_timedelta(frame["time"], unit="s"), **more)


def by_policy(frame):
    return frame.set_index("policy")


THREE = winners(("A", 100.0, 50.0, 50.0), ("B", 100.0, 10.0, 100.0), ("C", 200.0, 20.0, 20.0))
TWO_WAVES = requests((0, 150.0, 3.0), (10, 100.0, 1.0))


class TestByHand:
    """PnL % x leverage of shorts: A 50/150 x 2 = 0.67, B 10/110 x 1 = 0.09, C 20/220 x 10 = 0.91: C goes first.

    C loses 150 of 200 and 3 of its equity of 20. In the next wave it has 50 left, of 5 profit and 17 equity: 5/55 x
    50/17 = 0.27, behind A, which loses all of its 100.
    """

    def test_total_of_a_queue(self):
        found = study(THREE, TWO_WAVES, ["pnl_leverage"])
        row = found.total.iloc[0]
        assert (row["requested"], row["closed"], row["unfilled"]) == (250, 250, 0)
        assert (row["deficit"], row["needed"], row["haircut"], row["overshoot"]) == (4, 4, 4, 0)
        assert row["haircut_to_deficit"] == 1
        assert row["largest_to_deficit"] == pytest.approx(3 / 4)
        assert row["largest_to_equity"] == pytest.approx(3 / 20)
        assert row["largest_to_pnl"] == pytest.approx(3 / 20)
        assert (row["accounts"], row["fills"], row["waves"]) == (2, 2, 2)
        assert row["herfindahl"] == pytest.approx(0.6**2 + 0.4**2)
        assert row["top10_of_closed"] == pytest.approx(1)
        assert row["kept_top10"] == pytest.approx(150 / 400)
        assert row["kept_top10_at_half"] == pytest.approx(250 / 400)
        assert (row["kept_top1pct"], row["kept_top1pct_at_half"]) == (0, 1)  # A has the largest profit

    def test_waves_of_a_queue(self):
        first, second = study(THREE, TWO_WAVES, ["pnl_leverage"]).waves.to_dict("records")
        assert (first["closed"], first["deficit"], first["accounts"]) == (150, 3, 1)
        assert (second["closed"], second["deficit"], second["accounts"]) == (100, 1, 1)
        assert (first["herfindahl"], second["herfindahl"]) == (1, 1)
        assert (first["largest_to_equity"], second["largest_to_equity"]) == pytest.approx((3 / 20, 1 / 50))
        assert (first["t_start"], second["t_end"]) == (T0, T0 + pd.Timedelta("10s"))

    def test_positions(self):
        rows = study(THREE, TWO_WAVES, ["pnl_leverage", "pro_rata"]).positions.set_index(["policy", "account"])
        assert rows.loc["pnl_leverage", "closed"].tolist() == [100_000_000, 0, 150_000_000]
        assert rows.loc["pnl_leverage", "haircut"].tolist() == [1_000_000, 0, 3_000_000]
        assert rows.loc["pro_rata", "closed"].tolist() == [62_500_000, 62_500_000, 125_000_000]
        assert rows.loc["pro_rata", "haircut"].tolist() == [1_000_000, 1_000_000, 2_000_000]

    def test_a_pause_as_long_as_the_gap_ends_no_wave(self):
        assert study(THREE, TWO_WAVES, ["size"], wave_gap="10s").total["waves"].tolist() == [1]
        assert study(THREE, TWO_WAVES, ["size"], wave_gap=9.5).total["waves"].tolist() == [2]

    def test_closed_shorts_miss_the_rest_of_the_fall(self):
        """100 closed at 100 for 2 less; half of what is left at 98: lots worth 50 at 100. The 100 would have made 2."""
        two = requests((0, 100.0, 2.0), (1, 49.0, 0.0), mark=[100.0, 98.0])
        row = study(winners((1, 200.0, 30.0, 60.0)), two, ["pnl_leverage"]).total.iloc[0]
        assert (row["closed"], row["needed"]) == (149, 2)
        assert row["haircut"] == pytest.approx(4)
        assert row["overshoot"] == pytest.approx(2)
        assert row["haircut_to_deficit"] == pytest.approx(2)
        assert row["largest_to_equity"] == pytest.approx(4 / 60)

    def test_marks_move_equity_and_exposure(self):
        """B is at 110/20, 100 of it elsewhere, before A at 100/20; at 110 A is at 110/10, and B at 109.9/19.1."""
        pair = winners(("A", 100.0, 0.0, 20.0), ("B", 10.0, 0.0, 20.0)).assign(leverage=[5.0, 5.5])
        two = requests((0, 1.0, 0.0), (60, 11.0, 0.0), mark=[100.0, 110.0])
        found = study(pair, two, ["leverage"])
        assert found.positions["closed"].tolist() == [10_000_000, 1_000_000]
        assert found.waves["closed"].tolist() == [1, pytest.approx(11)]
        assert found.waves["kept_top10"].isna().all()  # nobody has a profit at the start

    def test_unfilled(self):
        row = study(THREE, requests((0, 500.0, 5.0)), ["pro_rata"]).total.iloc[0]
        assert (row["requested"], row["closed"], row["unfilled"]) == (500, 400, 100)
        assert (row["deficit"], row["needed"], row["haircut"]) == (5, 4, 4)
        assert row["haircut_to_deficit"] == pytest.approx(0.8)

    def test_who_has_no_equity_takes_no_part(self):
        pair = winners((1, 100.0, 50.0, -1.0), (2, 100.0, 1.0, 1.0), leverage=9.0)
        row = study(pair, requests((0, 150.0, 0.0)), ["size"]).total
        assert (row["closed"].item(), row["unfilled"].item()) == (100, 50)
        assert np.isnan(row["haircut_to_deficit"].item())

    def test_nobody_is_brought_to_a_margin_ratio_of_one(self):
        """A lot costs 0.04 and sets 0.01 free: 1 has 2 less 1 to lose, and bears 33; or is passed over."""
        pair = winners((1, 100.0, 5.0, 2.0), (2, 100.0, 5.0, 40.0))
        found = study(pair, requests((0, 50.0, 2.0)), ["bankruptcy_price", "pnl_leverage"]).positions
        assert found["closed"].tolist() == [0, 50_000_000, 33_333_333, 16_666_667]

    def test_markets_and_sides_are_closed_by_themselves(self):
        pair = winners((1, 100.0, 5.0, 50.0), (1, 80.0, 5.0, 50.0), (2, 70.0, 5.0, 50.0)).assign(
            market=["BTC", "ETH", "BTC"], side=["short", "short", "long"], leverage=[4.0, 4.0, 2.0]
        )
        two = requests((0, 30.0, 0.0), (0, 20.0, 0.0), (0, 10.0, 0.0)).assign(
            market=["ETH", "BTC", "SOL"], side=["short", "long", "short"]
        )
        found = study(pair, two, ["pro_rata"])
        assert found.positions.set_index(["account", "market"])["closed"].tolist() == [0, 30_000_000, 20_000_000]
        assert found.total["unfilled"].item() == 10

    def test_a_policy_of_ones_own(self, monkeypatch):
        monkeypatch.setitem(POLICIES, "poorest", adl_policies.AdlPolicy("poorest", lambda of: -of.equity))
        found = study(THREE, TWO_WAVES, ["poorest"])
        assert found.positions["closed"].tolist() == [50_000_000, 0, 200_000_000]


@st.composite
def events(draw):
    count = draw(st.integers(1, 8))
    cents = st.integers(1, 10**7)
    notional = np.array(draw(st.lists(cents, min_size=count, max_size=count))) / 100
    leverage = np.array(draw(st.lists(st.floats(0.05, 20), min_size=count, max_size=count)))
    gain = np.array(draw(st.lists(st.floats(-0.5, 3), min_size=count, max_size=count)))
    table = pd.DataFrame(
        {"account": np.arange(count), "notional": notional, "pnl": gain * notional, "equity": notional / leverage}
    ).assign(leverage=leverage)
    asked = draw(st.lists(st.tuples(st.integers(0, 20), cents), min_size=1, max_size=6))
    rows = [(time, cent / 100, cent / 100 * draw(st.floats(0, 0.001))) for time, cent in sorted(asked)]
    return table, requests(*rows)


class TestProperties:
    @settings(deadline=None, max_examples=40)
    @given(events())
    def test_quanta_add_up(self, event):
        """Everything asked for is closed or everything there is; what is taken is the deficit of what was closed."""
        have, asked = event
        found = study(have, asked)
        notional = np.rint(have["notional"] * 1e6).astype(int).sum()
        wanted = np.rint(asked["notional"] * 1e6).astype(int).sum()
        deficit = sum(round(x * 1e6) for x in asked["deficit"])
        for name, rows in found.positions.groupby("policy"):
            total = by_policy(found.total).loc[name]
            assert rows["closed"].between(0, np.rint(have["notional"].to_numpy() * 1e6)).all()
            assert round((total["closed"] + total["unfilled"]) * 1e6) == wanted
            assert round(total["closed"] * 1e6) == rows["closed"].sum()
            assert round(total["needed"] * 1e6) == rows["haircut"].sum()
            if name not in ("bybit", "bankruptcy_price"):  # which pass over some
                assert rows["closed"].sum() == min(notional, wanted)
            if total["unfilled"] == 0:
                assert rows["haircut"].sum() == deficit
            assert total["overshoot"] == pytest.approx(0, abs=1e-9)

    @settings(deadline=None, max_examples=20)
    @given(events(), st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, event, random):
        have, asked = event
        order = list(range(len(have)))
        random.shuffle(order)
        one, other = study(have, asked), study(have.iloc[order], asked)
        pd.testing.assert_frame_equal(one.total, other.total, check_exact=True)
        pd.testing.assert_frame_equal(one.positions, other.positions, check_exact=True)

    @settings(deadline=None, max_examples=20)
    @given(events())
    def test_waves_add_up_to_the_total(self, event):
        found = study(*event)
        for name, rows in found.waves.groupby("policy"):
            total = by_policy(found.total).loc[name]
            for column in ("closed", "unfilled", "deficit", "needed", "haircut", "fills"):
                assert rows[column].sum() == pytest.approx(total[column], rel=1e-9, abs=1e-9)
            assert rows["kept_top10"].iloc[-1] == pytest.approx(total["kept_top10"], nan_ok=True)
            assert len(rows) == total["waves"]


class TestInput:
    @pytest.mark.parametrize(
        ("spoil", "line"),
        [
            ({"notional": 0.0}, "winners.notional, row 0, value 0.0: must be a finite number > 0"),
            ({"pnl": np.nan}, "winners.pnl, row 0, value nan: must not be missing"),
            ({"leverage": -1.0}, "winners.leverage, row 0, value -1.0: must be a finite number >= 0"),
            ({"side": "up"}, "winners.side, row 0, value 'up': must be 'long' or 'short'"),
        ],
    )
    def test_bad_winner(self, spoil, line):
        side = {"side": "short"} if "side" in spoil else {}
        with pytest.raises(RiskDataError) as caught:
            study(THREE.assign(**spoil), TWO_WAVES.assign(**side))
        assert str(caught.value) == line

    @pytest.mark.parametrize(
        ("spoil", "line"),
        [
            ({"notional": -5.0}, "requests.notional, row 0, value -5.0: must be a finite number > 0"),
            ({"deficit": -1.0}, "requests.deficit, row 0, value -1.0: must be a finite number >= 0"),
            ({"mark": 0.0}, "requests.mark, row 0, value 0.0: must be a finite number > 0"),
            ({"market": "BTC"}, "winners.market: the column is missing, but the other table has it"),
        ],
    )
    def test_bad_request(self, spoil, line):
        with pytest.raises(RiskDataError) as caught:
            study(THREE, TWO_WAVES.assign(**spoil))
        assert str(caught.value) == line

    @pytest.mark.parametrize(
        ("have", "line"),
        [
            (THREE.drop(columns="equity"), "winners.equity: the column is missing; the table has account, notional, "),
            (THREE.iloc[:0], "winners: must have at least one row"),
            (
                pd.concat([THREE, THREE]),
                "winners.account+market+side, row 3, value 'A, all, short': must not appear twice",
            ),
            (
                THREE.assign(account=1, market=["x", "y", "z"]),
                "winners.equity, row 1, value 100.0: must be the same in every row of the account",
            ),
            ("winners.csv", "winners: must be a pandas DataFrame, not str: "),
        ],
    )
    def test_bad_table(self, have, line):
        more = {"market": "x"} if "market" in have else {}
        with pytest.raises(RiskDataError) as caught:
            study(have, TWO_WAVES.assign(**more))
        assert str(caught.value).startswith(line)

    def test_unknown_policy(self):
        with pytest.raises(RiskDataError, match="policy, value 'best': must be one of pnl_leverage, bitmex"):
            study(THREE, TWO_WAVES, ["best"])

    @pytest.mark.parametrize("gap", ["soon", -1, float("nan")])
    def test_no_length_of_time(self, gap):
        with pytest.raises(RiskDataError, match=r"wave_gap, value '.*': must be a duration of 0 or more"):
            study(THREE, TWO_WAVES, ["size"], gap)


class TestOrder:
    def rows(self, score, count=12):
        rng = np.random.default_rng(1)
        frame = pd.DataFrame({"pnl_pct": rng.uniform(1, 80, count), "leverage": rng.uniform(0.5, 20, count)})
        frame = frame.assign(time=[T0, T0 + pd.Timedelta("1s")] * (count // 2), account=np.arange(count), side="long")
        return frame.iloc[np.argsort(-score(frame), kind="stable")].reset_index(drop=True)

    def test_the_order_taken_is_found(self):
        found = order_agreement(self.rows(lambda frame: frame["pnl_pct"] * frame["leverage"])).set_index("policy")
        assert found.index[:2].tolist() == ["pnl_leverage", "bybit"]
        assert found.loc["pnl_leverage", "spearman"] == pytest.approx(1)
        assert found.loc["leverage", "spearman"] < 1
        assert found["bursts"].tolist() == [2] * len(found)
        found = order_agreement(self.rows(lambda frame: -frame["leverage"])).set_index("policy")
        assert found.loc["leverage", "spearman"] == pytest.approx(-1)
        assert found.index[-1] == "leverage"

    def test_hyperliquid_is_mark_over_entry_times_leverage(self):
        rows = self.rows(lambda frame: (1 + frame["pnl_pct"] / 100) * frame["leverage"])
        assert order_agreement(rows)["policy"].iloc[0] == "hyperliquid"

    def test_size_needs_a_notional_and_sequence_counts(self):
        rows = self.rows(lambda frame: frame["pnl_pct"])
        assert "size" not in order_agreement(rows)["policy"].tolist()
        rows["notional"] = np.arange(len(rows)) + 1.0
        rows["sequence"] = -np.arange(len(rows))
        found = order_agreement(rows).set_index("policy")
        assert found.loc["size", "spearman"] == pytest.approx(1)
        assert found.loc["pnl_pct", "spearman"] == pytest.approx(-1)

    def test_bursts_count_by_their_rows(self):
        burst = pd.DataFrame({"pnl_pct": [3.0, 2.0, 1.0], "leverage": 1.0, "account": range(3), "time": T0})
        burst["side"] = "long"
        longer = burst.iloc[[2, 1, 0]].assign(time=T0 + pd.Timedelta("1s"))
        longer = pd.concat([longer, longer.tail(1).assign(pnl_pct=9.0)])
        pair = burst.iloc[:2].assign(time=T0 + pd.Timedelta("2s"))
        found = order_agreement(pd.concat([burst, longer, pair])).set_index("policy").loc["pnl_pct"]
        assert (found["rows"], found["bursts"], found["best"], found["worst"]) == (7, 2, 1, -1)
        assert found["spearman"] == pytest.approx((3 - 4) / 7)

    def test_equal_scores_explain_nothing(self):
        rows = pd.DataFrame({"pnl_pct": 1.0, "leverage": 0.0, "account": range(4), "time": T0, "side": "short"})
        assert (order_agreement(rows)["spearman"] == 0).all()

    def test_shorts_are_scored_as_shorts(self):
        """Marks of 100 and entries of 125, 200, 110 and 400, so that a short of 80 at the mark cost 100, 160, 88, 320.

        pnl_leverage: 0.2 x 10, 0.5 x 3, 1 / 11 x 20, 0.75 x 1. hyperliquid, entry over mark times leverage: 12.5, 6,
        22, 4. binance, profit over wallet (equity less profit, 1 at least) times exposure over equity: 20 over 1 times
        10, 80 over 1 times 3, 8 over 1 times 20, 240 over 1 times 1. As longs they would be 3rd, 1st, 4th, 2nd.
        """
        rows = pd.DataFrame({"pnl_pct": [20.0, 50.0, 100 / 11, 75.0], "leverage": [10.0, 3.0, 20.0, 1.0]})
        rows = rows.assign(time=T0, account=range(4), side="short", notional=80.0)
        found = order_agreement(rows).set_index("policy")["spearman"]
        expected = {  # of the ranks 1 to 4 of the scores in the order of the rows
            "pnl_leverage": [1, 3, 2, 4], "bybit": [1, 3, 2, 4], "hyperliquid": [2, 3, 1, 4], "leverage": [2, 3, 1, 4],
            "binance": [3, 1.5, 4, 1.5], "size": None, "pnl_pct": [3, 2, 4, 1],
        }  # fmt: skip
        assert found.to_dict() == pytest.approx({n: self.correlation(rank) for n, rank in expected.items()})

    @staticmethod
    def correlation(rank):
        return 0 if rank is None else float(np.corrcoef(rank, [1, 2, 3, 4])[0, 1])

    def test_wallets_of_shorts(self):
        """Shorts of 1,000 that cost 2,500 made 1,500; of an equity of 1,600, 2,000 and 4,000 the wallet is the rest."""
        rows = pd.DataFrame({"pnl_pct": 60.0, "leverage": [1000 / 1600, 1000 / 2000, 1000 / 4000]})
        rows = rows.assign(time=T0, account=range(3), side="short", notional=1000.0)
        assert order_agreement(rows).set_index("policy").loc["binance", "spearman"] == 1

    def test_a_queue_has_a_side(self):
        rows = self.rows(lambda frame: frame["pnl_pct"])
        with pytest.raises(RiskDataError, match=r"queue\.side: the column is missing"):
            order_agreement(rows.drop(columns="side"))
        with pytest.raises(RiskDataError, match=r"queue\.side, row 1, value 'Short': must be 'long' or 'short'"):
            order_agreement(rows.assign(side=["short", "Short"] * 6))
        turn = rows.groupby("time").cumcount()  # six in each second
        mixed = rows.assign(side=np.where(turn % 2 == 0, "long", "short"))
        assert order_agreement(mixed)["bursts"].tolist() == [4] * 5

    @pytest.mark.parametrize(("side", "pnl_pct"), [("short", 100.0), ("long", -130.0)])
    def test_a_position_is_worth_something(self, side, pnl_pct):
        rows = self.rows(lambda frame: frame["pnl_pct"]).assign(side=side)
        rows.loc[2, "pnl_pct"] = pnl_pct
        with pytest.raises(
            RiskDataError, match=f"queue.pnl_pct, row 2, value {pnl_pct}: must be a percentage of the entry value"
        ):
            order_agreement(rows)

    def test_scores_that_differ_by_rounding_are_equal(self):
        rows = pd.DataFrame({"pnl_pct": 7.0, "leverage": 3.0, "notional": [9.0, 7.3, 1.1, 0.3], "account": range(4)})
        found = order_agreement(rows.assign(time=T0, side="short")).set_index("policy")["spearman"]
        assert found["size"] == 1
        assert found[["pnl_leverage", "bybit", "hyperliquid", "leverage"]].tolist() == [0, 0, 0, 0]

    def test_no_burst(self):
        rows = self.rows(lambda frame: frame["pnl_pct"]).head(4)
        with pytest.raises(RiskDataError, match="queue: must have a time, market and side with at least 3 rows"):
            order_agreement(rows)


class TestGenerated:
    def test_policies_differ(self):
        found = by_policy(study(*generated_event(500), ["pnl_leverage", "size", "pro_rata", "capped_pro_rata"]).total)
        assert (found["unfilled"] == 0).all()
        assert found.loc["pro_rata", "herfindahl"] < found.loc["pnl_leverage", "herfindahl"]
        assert found.loc["size", "kept_top10"] < found.loc["pro_rata", "kept_top10"]
        assert found["largest_to_equity"].idxmin() == "capped_pro_rata"
        assert (found["overshoot"] > 0).all()

    def test_same_seed_same_event(self):
        for one, other in zip(generated_event(50, seed=2), generated_event(50, seed=2), strict=True):
            pd.testing.assert_frame_equal(one, other, check_exact=True)

    def test_picture_is_one_file(self, tmp_path):
        found = study(*generated_event(50), ["pnl_leverage", "pro_rata"])
        found.write_html(tmp_path / "study.html")
        text = (tmp_path / "study.html").read_text()
        assert "pnl_leverage" in text
        assert "<script src=" not in text.replace(" ", "")
        assert [path.name for path in tmp_path.iterdir()] == ["study.html"]
        with pytest.raises(RiskDataError, match=r"out, value '.*': cannot be written"):
            found.write_html(tmp_path / "nowhere" / "study.html")

    def test_picture_without_plotly(self, monkeypatch):
        found = study(*generated_event(50), ["pro_rata"])
        monkeypatch.setitem(__import__("sys").modules, "plotly", None)
        with pytest.raises(RiskDataError, match="out: the picture needs plotly, of the extra 'cli'"):
            found.picture()


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A run whose backstop providers take next to nothing."""
    return small_crash(tmp_path_factory.mktemp("runs") / "crash")


def small_crash(path, capacity="20000"):
    venue, made = sample.crash(120, 30, seed=3)
    source = venue.source
    source["backstop"] = [row | {"capacity_per_min": capacity} for row in source["backstop"]]
    venue = load_venue(source)
    accounts = Accounts.from_frames(venue, made.positions, made.balances, made.orders)
    io.replay(venue, accounts, io.read_ticks(venue, accounts, made.marks, made.books), path)
    return path


@pytest.fixture(scope="module")
def two_runs(crash):
    return study_run(crash, ["pnl_leverage", "pro_rata"])


class TestRun:
    def test_ticks_of_a_folder_give_the_same_run(self, crash):
        venue = load_venue(crash / "venue.json")
        ticks = runs.read_ticks(crash, venue)
        engine = Engine(reader.read_accounts(crash, venue), venue, run_folder.read_manifest(crash)["seed"])
        rows = np.concatenate([engine.step(tick).rows for tick in ticks])
        assert rows.tobytes() == reader.read_journal(crash).tobytes()

    def test_figures_are_those_of_the_journal(self, crash, two_runs):
        venue, rows = load_venue(crash / "venue.json"), reader.read_journal(crash)
        deals = rows[rows["event"] == EVENT["adl"]]
        assert len(deals) > 0
        total = by_policy(two_runs.total).loc["pnl_leverage"]
        own = two_runs.positions[two_runs.positions["policy"] == "pnl_leverage"]
        assert own["closed"].sum() == np.abs(deals["lots"]).sum()
        assert total["fills"] == len(deals)
        assert total["accounts"] == len(np.unique(deals["counterparty"])) == own["account"].nunique()
        split = report.waterfall_split(rows, venue)
        mine = two_runs.split[two_runs.split["policy"] == "pnl_leverage"].drop(columns="policy").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, split, check_exact=True)
        # the deals are at the zero price, the figures at the mark
        assert total["closed"] == pytest.approx(split.set_index("stage").loc["ADL", "notional"], rel=0.05)

    def test_unfilled_is_what_the_last_tick_left(self, crash, two_runs):
        rows = reader.read_journal(crash)
        own = rows[(rows["event"] == EVENT["unfilled"]) & (rows["market"] >= 0)]
        deals = rows[rows["event"] == EVENT["adl"]]
        last = max(deals["tick"].max(), own["tick"].max(initial=0))
        total = by_policy(two_runs.total).loc["pnl_leverage"]
        assert (total["unfilled"] > 0) == bool((own["tick"] == last).any())
        assert total["requested"] == pytest.approx(total["closed"] + total["unfilled"])

    def test_haircuts_are_what_is_below_the_mark(self, crash, two_runs):
        """Needed by hand from the journal: the mark's worth of what each winner lost, less what it got for it."""
        venue, rows = load_venue(crash / "venue.json"), reader.read_journal(crash)
        _, marks, _, _ = reader.open_run(crash).prices()
        deals = rows[rows["event"] == EVENT["adl"]]
        price = marks[deals["tick"], deals["market"]] * venue.markets.step_size[deals["market"]]
        got = (deals["counter_cash"] - deals["counter_cost"]) * float(venue.settle_quantum)
        below = deals["lots"] * price - got
        total = by_policy(two_runs.total).loc["pnl_leverage"]
        assert total["needed"] == pytest.approx(np.maximum(below, 0).sum(), abs=1e-4)

    def test_a_run_without_deleveraging(self, tmp_path):
        found = study_run(small_crash(tmp_path / "run", "1000000000"), ["size"])
        assert (found.total["waves"].item(), found.total["closed"].item()) == (0, 0)
        assert len(found.positions) == len(found.waves) == 0
        found.picture()

    def test_picture_has_the_stages(self, two_runs):
        names = {trace.name for trace in two_runs.picture().data}
        assert {"pnl_leverage", "pro_rata", "order book", "backstop", "ADL"} <= names

    def test_no_run(self, tmp_path):
        with pytest.raises(RiskDataError, match=r"must be a run folder with a run.json"):
            study_run(tmp_path)


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data/hl_adl_20251010"


@pytest.fixture(scope="module")
def data(folder):
    return adl_october.published(folder)


@pytest.fixture(scope="module")
def october(folder):
    return study(*adl_october.hyperliquid_october(folder), wave_gap=adl_october.GAP)


class TestOctober:
    """The real event; what its data do not have is in docs/adl_study.md."""

    def test_every_policy_closes_the_published_total(self, october, data):
        """19,337 winners, 1,294 requests; two policies pass over some: without profit, or brought to a ratio of 1."""
        published = data.numbers["total_impact"]["adl"]["notional"]
        assert published == pytest.approx(2_103_111_430.86, abs=0.005)
        assert (len(data.users), len(data.seconds)) == (19_337, 1_294)
        total = by_policy(october.total)
        assert total.index.tolist() == list(POLICIES)
        assert total["requested"].to_numpy() == pytest.approx(np.full(len(total), published), abs=0.005)
        whole = total.index.difference(["bybit", "capped_pro_rata"])
        assert total.loc[whole, "closed"].to_numpy() == pytest.approx(np.full(len(whole), published), abs=0.01)
        assert total["unfilled"].max() < 4e6

    def test_quanta_add_up(self, october):
        for name, rows in october.positions.groupby("policy"):
            total = by_policy(october.total).loc[name]
            assert round(total["closed"] * 1e6) == pytest.approx(rows["closed"].sum(), abs=1)
            assert round(total["needed"] * 1e6) == rows["haircut"].sum()

    def test_needed_budget_of_each_published_wave(self, october, data):
        rows = october.waves[october.waves["policy"] == "pnl_leverage"].set_index("t_start")
        start = pd.to_datetime(data.replay["t_start_ms"] // 1000, unit="s", utc=True)
        needed = rows.loc[start, "needed"].to_numpy()
        assert needed == pytest.approx(data.replay["budget_needed_usd"].to_numpy(), abs=1e-3)
        assert rows["needed"].sum() == pytest.approx(needed.sum(), abs=1e-6)

    def test_published_totals_again(self, data):
        assert data.users["num_adl_events"].sum() == data.coins["adl_events"].sum() == 34_983
        share = data.seconds.groupby("coin")["adl_notional"].sum() / data.seconds["adl_notional"].sum()
        assert share.nlargest(3).round(4).to_dict() == {"BTC": 0.2952, "ETH": 0.2178, "SOL": 0.1313}

    def test_published_tables_again(self, data):
        table = adl_october.reproduced(data)
        assert len(table) == 52
        assert table["off"].max() < 1e-10
        assert (table["values"] > 0).all()

    def test_one_account_is_in_nine_deficits(self, data):
        deficit = data.losers["deficit_usd"]
        assert deficit.sum() == pytest.approx(100_063_386, abs=1)
        assert np.isclose(data.losers["max_loss_usd"], 10_925_707.159, atol=1e-3).sum() == 9

    def test_policies_differ_when_winners_had_more_than_was_closed(self, folder):
        names = ["pnl_leverage", "size", "pro_rata", "capped_pro_rata"]
        have, asked = adl_october.hyperliquid_october(folder, held=2)
        total = by_policy(study(have, asked, names, wave_gap=adl_october.GAP).total)
        assert (total["unfilled"] == 0).all()
        assert total.loc["pro_rata", "kept_top10"] == pytest.approx(0.5, abs=1e-6)
        assert total["herfindahl"].idxmin() == "capped_pro_rata"
        assert total["herfindahl"].idxmax() == "size"
        assert total.loc["size", "accounts"] < 100 < total.loc["pnl_leverage", "accounts"] < 19_337
