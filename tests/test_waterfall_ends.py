"""Every instant ends an account or names what it waits for, in the order of the stages, and no fee ruins anybody."""

from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from riskcore import Engine, reference
from tests.comparison import natural_rows, totals
from tests.strategies import Scene, scenes

WAITS = {"skip", "expire", "harm", "unfilled"}
ACTS = {"cancel", "redeem", "convert", "book", "market_close", "backstop", "adl", "fund", "socialize", "shortfall"}
STAGE = {"book": "book", "backstop": "backstop", "adl": "adl", "market_close": "last book"}


def stage_of(row) -> str | None:
    """The part of the waterfall that a row belongs to; None: of any."""
    if row["reason"] == "close_out" or row["event"] in ("fund", "socialize", "shortfall"):
        return "close out"
    if row["event"] == "unfilled" or row["reason"] == "full_utilization":
        kinds = {row["market"] is not None: "last book", row["reason"] == "full_utilization": "lends"}
        return kinds.get(True, "what stays")
    if row["asset"] is not None and row["event"] in ("skip", "expire", "harm", "redeem", "convert"):
        return "repay"
    return "book" if row["event"] in ("skip", "expire", "harm") else STAGE.get(row["event"])


def assert_stages_are_in_order(stages: list[str], rows) -> None:
    """Repayments come first, with the book where it is the first stage; the rest ends after the last stage."""
    order = [*stages, "last book", "close out", "what stays"]
    order.insert(order.index("adl" if "adl" in stages else "last book"), "lends")
    place = {name: n for n, name in enumerate(order)}
    place["repay"] = 0 if order[0] == "book" else -1
    found = [place[name] for name in map(stage_of, rows) if name is not None]
    assert found == sorted(found), [name for name in map(stage_of, rows) if name is not None]


def assert_every_account_ends(scene: Scene, oracle, state, prices, rows) -> None:
    """Healthy, closed out or waiting with a row; one that the last book takes has a row for all that it still has."""
    past = "book" in oracle.policy["stages"]
    escalated = {row["account"] for row in rows if row["reason"] == "to_backstop" and row["event"] == "harm"}
    for account in {row["account"]: 1 for row in rows if row["event"] == "trigger"}:
        own, now = [row for row in rows if row["account"] == account], state.accounts[account]
        margin = reference.margin(oracle, now, prices)
        if not margin.liquidating:
            continue
        assert {row["event"] for row in own} & (WAITS | ACTS), account
        if past and not margin.below_auto_close and account not in escalated:
            continue
        named = {row["market"] or row["asset"] for row in own if row["event"] == "unfilled"}
        held = {market for market, (lots, *_) in now.positions.items() if lots}
        held |= {asset for asset, (free, _) in now.balances.items() if free < 0}
        assert held <= named, (account, held, named)


def assert_no_fee_ruins(oracle, state, prices, row) -> None:
    """What an account has left without a fee is not below zero with it; without anything left there is no fee."""
    account = state.accounts[row["account"]]
    after = reference.margin(oracle, account, prices).net_equity
    account.balances[row["settle"]][0] += row["fee"]
    without = reference.margin(oracle, account, prices).net_equity
    account.balances[row["settle"]][0] -= row["fee"]
    assert without > 0, row
    assert after >= 0, row


def assert_ends(scene: Scene) -> set[str]:
    """Step an engine through a scene; gives what happened."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    engine, happened = Engine(accounts, venue, scene.seed), set()
    everything = totals(engine, venue)
    for inputs in scene.ticks:
        try:
            after, _, seen = reference.step(oracle, state, *inputs.reference_arguments(), seed=scene.seed)
        except ValueError:
            reject()
        rows = natural_rows(engine.step(inputs.tick()))
        happened |= {f"{row['event']}: {row['reason']}" for row in rows}
        prices = seen.prices.at(oracle, state)
        first = next((n for n, row in enumerate(rows) if row["event"] == "trigger"), len(rows))
        now = reference.apply_rows(state, rows[:first])
        for row in rows[first:]:
            reference.apply_row(now, row)
            if row["fee"]:
                assert_no_fee_ruins(oracle, now, prices, row)
        assert_stages_are_in_order(list(venue.policy.stages), rows[first:])
        assert_every_account_ends(scene, oracle, now, prices, rows[first:])
        assert totals(engine, venue) == everything
        state = after
    return happened


@settings(max_examples=200)
@given(st.integers(1, 3).flatmap(lambda ticks: scenes(ticks=ticks, live=True)))
def test_every_account_ends(scene: Scene):
    for kind in assert_ends(scene):
        event(kind)


@settings(max_examples=100)
@given(st.integers(1, 2).flatmap(lambda ticks: scenes(ticks=ticks, live=True, mixed=True)))
def test_every_account_of_several_assets_ends(scene: Scene):
    for kind in assert_ends(scene):
        event(kind)
