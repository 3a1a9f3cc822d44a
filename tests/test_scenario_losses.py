"""Worst losses, attribution and comparison of models for accounts: against single computations, files and pictures."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.boundary import RiskDataError
from riskcore.run import binding_picture, payoff_picture
from riskcore.sample import options_sample
from riskcore.scenario import load_scenario_model


@pytest.fixture(scope="module")
def sample():
    return options_sample(300, seed=1)


@pytest.fixture(scope="module")
def losses(sample):
    return rc.scenario_losses(sample.accounts, sample.venue, sample.tick)


@pytest.fixture(scope="module")
def split(sample):
    return rc.attribution(sample.accounts, sample.venue, sample.tick)


def margins(sample, venue=None):
    return rc.sweep(sample.accounts, venue or sample.venue, sample.tick)


def with_model(sample, **keys):
    return sample.venue.replace(scenario_model=load_scenario_model("derive").replace(**keys))


# ---- Losses


def test_the_worst_of_the_matrix_is_the_worst_loss(losses):
    (block,) = losses.blocks()
    found = pd.Series(range(len(block.account)), index=[block.account, block.group])
    row = found.loc[list(zip(losses.account, losses.group_name, strict=True))].to_numpy()
    assert block.loss[row, losses.scenario].tolist() == losses.worst_loss.tolist()
    assert block.loss[row].max(axis=1).tolist() == losses.worst_loss.tolist()
    assert len(row) < len(block.account)  # some accounts hold two groups


def test_the_requirement_is_that_of_the_sweep(sample, losses):
    assert losses.requirement == pytest.approx(margins(sample).maintenance_margin, abs=1e-9)
    assert (losses.account == sample.accounts.ids).all()


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_blocks_do_not_change_the_losses(sample, losses, block):
    parts = list(rc.scenario_losses(sample.accounts, sample.venue, sample.tick, block=block).blocks())
    (whole,) = losses.blocks()
    assert max(len(part.account) for part in parts) <= max(block, len(losses.groups))
    sizes = [len(part.account) for part in parts]
    assert all(a + b > block for a, b in pairwise(sizes))  # no two could have been one
    for name in whole._fields:
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


def test_a_block_takes_the_memory_of_a_block(sample):
    """The kernel is asked for no more than a block of accounts at a time."""
    table = rc.scenario_losses(sample.accounts, sample.venue, sample.tick, block=16)
    asked, original = [], type(table.table).losses

    class Watched(type(table.table)):
        def losses(self, portfolios, first, last):
            found = original(self, portfolios, first, last)
            asked.append(found.size)
            return found

    object.__setattr__(table, "table", Watched(**vars_of(table.table)))
    assert sum(len(block.account) for block in table.blocks()) >= len(sample.accounts)
    assert max(asked) <= 16 * len(table.scenarios)


def vars_of(value):
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_matrix_in_a_file(sample, losses, suffix, tmp_path):
    (whole,) = losses.blocks()
    small = rc.scenario_losses(sample.accounts, sample.venue, sample.tick, block=20)
    path = tmp_path / f"losses{suffix}"
    assert rc.io.write_scenario_losses(path, small) == len(whole.account)
    table = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path)
    names = [name.removeprefix("'") for name in table.columns]  # a name that a spreadsheet would compute is quoted
    assert names == ["account", "group", *losses.scenarios["name"]]
    assert table["account"].tolist() == whole.account.tolist()
    assert table["group"].tolist() == whole.group.tolist()
    assert table.iloc[:, 2:].to_numpy() == pytest.approx(whole.loss, rel=1e-12)


def test_an_account_without_positions(sample, tmp_path):
    cash = pd.DataFrame({"account": ["ann"], "asset": ["USDC"], "quantity": [5.0]})
    idle = rc.Accounts.from_frames(sample.venue, sample.positions[:0], cash)
    losses = rc.scenario_losses(idle, sample.venue, sample.tick)
    row = {
        "account": "ann",
        "requirement": 0.0,
        "worst_loss": 0.0,
        "scenario": -1,
        "scenario_name": "no loss",
        "group": "",
    }
    assert losses.to_frame().to_dict("records") == [row]
    assert repr(losses) == "ScenarioLosses(1 account, 32 scenarios, no loss)"
    assert next(losses.blocks()).loss.shape == (0, 32)
    assert rc.io.write_scenario_losses(tmp_path / "none.parquet", losses) == 0
    assert pd.read_parquet(tmp_path / "none.parquet").shape == (0, 34)
    split = rc.attribution(idle, sample.venue, sample.tick)
    assert split.accounts_frame()[["account", "requirement", "saved_by_hedging"]].values.tolist() == [["ann", 0.0, 0.0]]


def test_texts_and_tables_for_readers(losses, split):
    assert re.fullmatch(
        r"ScenarioLosses\(300 accounts, 32 scenarios; '.+' is the worst of \d+ accounts\)", repr(losses)
    )
    assert re.fullmatch(r"Attribution\(300 accounts, \d+ positions, hedging saves .+% of .+\)", repr(split))
    assert losses._repr_html_().startswith("<p>ScenarioLosses(300 accounts")
    assert "BTC_USDC_PERP" in split._repr_html_()
    assert "&lt;script&gt;" in rc.scenario_losses(*hostile())._repr_html_()


def hostile():
    sample = options_sample(5)
    row = {"move": "-0.1", "name": "<script>"}
    model = {"scenarios": [row]}
    return sample.accounts, sample.venue.replace(scenario_model=model), sample.tick


# ---- Attribution


def test_contributions_sum_to_the_requirement(sample, split):
    sums = np.bincount(split.row, split.contribution, len(split.account))
    assert sums == pytest.approx(split.requirement, rel=1e-9)
    assert split.requirement == pytest.approx(margins(sample).maintenance_margin, rel=1e-12)


def test_attribution_of_some_accounts_is_that_of_all(sample, split):
    chosen = [17, 3, 200]
    some = rc.attribution(sample.accounts, sample.venue, sample.tick, account=chosen)
    everything = split.to_frame().set_index("account")
    expected = pd.concat([everything.loc[[account]] for account in chosen]).reset_index()
    pd.testing.assert_frame_equal(some.to_frame(), expected)
    assert some.accounts_frame()["account"].tolist() == chosen


def test_marginal_requirement_is_per_unit_of_quantity(sample, split):
    """A fill of a small quantity of each position of an account; away from ties."""
    frame, compared = split.to_frame(), 0
    for account in (1, 9, 28, 60):
        for line in frame[(frame["account"] == account) & frame["item"].isin(sample.venue.markets.symbol)].itertuples():
            requirements = []
            for quantity in (-0.01, 0.0, 0.01):
                fill = {"account": account, "market": line.item, "quantity": [quantity], "price": 100.0}
                accounts = sample.accounts
                if quantity:
                    accounts = accounts.with_fills(sample.venue, pd.DataFrame(fill).assign(quantity=quantity * 10))
                table = rc.attribution(accounts, sample.venue, sample.tick, account=account)
                requirements.append(table.requirement[0])
            below, above = np.diff(requirements) / 0.1
            if abs(above - below) < 1e-3 * max(abs(line.marginal), 1):
                assert (above + below) / 2 == pytest.approx(line.marginal, rel=1e-3, abs=1e-3)
                compared += 1
    assert compared >= 4


def test_a_borrow_with_a_margin_function_is_a_line(sample):
    """The account owes BTC, which is no position of a scenario: its margin function is all of its contribution."""
    function = {"type": "sqrt", "base": "0.1", "factor": "0"}
    source = sample.source | {"collateral": [sample.source["collateral"][0], BORROWED | {"mmfFunction": function}]}
    source["collateral"][1]["imfFunction"] = function
    model = load_scenario_model("derive").replace(borrow_margin="function").to_dict()
    pools = [{"symbol": "BTC"}, {"symbol": "USDC"}]
    venue = rc.load_venue(source | {"borrow_lend": pools, "scenario_model": model})
    positions = pd.DataFrame({"account": [1], "market": ["ETH_USDC_PERP"], "quantity": [2.0], "entry_price": [2_500.0]})
    balances = pd.DataFrame({"account": [1, 1], "asset": ["USDC", "BTC"], "quantity": [50_000.0, -0.5]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    split = rc.attribution(accounts, venue, sample.tick)
    lines = split.to_frame().set_index("item")
    assert lines.loc["BTC", ["quantity", "contribution", "marginal", "saved", "alone"]].tolist() == pytest.approx(
        [-0.5, 3_000.0, -6_000.0, -3_000.0, 3_000.0]
    )
    assert split.contribution.sum() == pytest.approx(rc.sweep(accounts, venue, sample.tick).maintenance_margin[0])


@pytest.mark.parametrize("rule", ["function", "scenario"])
@pytest.mark.parametrize(("cash", "coins"), [(-500.0, 1.0), (40_000.0, -0.25), (-500.0, -0.25)])
def test_the_requirement_of_accounts_in_debt_is_that_of_the_sweep(sample, rule, cash, coins):
    function = {"type": "sqrt", "base": "0.05", "factor": "0.0001"}
    functions = {"imfFunction": function, "mmfFunction": function}
    collateral = [sample.source["collateral"][0] | functions, BORROWED | functions]
    model = load_scenario_model("derive").replace(borrow_margin=rule).to_dict()
    pools = [{"symbol": "BTC"}, {"symbol": "USDC"}]
    venue = rc.load_venue(
        sample.source | {"collateral": collateral, "borrow_lend": pools, "scenario_model": model}
    )  # fmt: skip
    positions = pd.DataFrame({"account": [1], "market": ["ETH_USDC_PERP"], "quantity": [2.0], "entry_price": [2_500.0]})
    balances = pd.DataFrame({"account": [1, 1], "asset": ["USDC", "BTC"], "quantity": [cash, coins]})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    needed = rc.sweep(accounts, venue, sample.tick).maintenance_margin
    split = rc.attribution(accounts, venue, sample.tick)
    assert split.requirement == pytest.approx(needed)
    assert split.contribution.sum() == pytest.approx(needed[0])
    table = rc.compare_models(accounts, venue, sample.tick, {"own": model})
    assert table["requirement"].tolist() == needed.tolist()
    assert table["saved_by_hedging"].to_numpy() == pytest.approx(split.saved_by_hedging)


BORROWED = {
    "symbol": "BTC", "quantum": "0.00000001",
    "haircutFunction": {"weight": "0.95", "kind": {"type": "identity"}},
}  # fmt: skip


def test_an_account_line_by_line_has_the_same_saving(sample, split):
    saved = split.accounts_frame().set_index("account")["saved_by_hedging"]
    in_coin = sample.balances.loc[sample.balances["asset"] == "BTC", "account"].tolist()
    for account in {*saved.index[::40].tolist(), *in_coin[::5]}:
        lines = rc.explain_margin(sample.accounts, sample.venue, sample.tick, account)
        hedging = lines.loc[lines["kind"] == "hedging", "standalone_margin"].astype(float).sum()
        assert hedging == pytest.approx(-saved[account], abs=1e-6)


# ---- Models side by side


def test_each_model_as_if_it_were_alone(sample):
    table = rc.compare_models(sample.accounts, sample.venue, sample.tick, ["derive", "grid24"])
    assert len(table) == 2 * len(sample.accounts)
    assert table["account"].tolist() == np.repeat(sample.accounts.ids, 2).tolist()
    for name in ("derive", "grid24"):
        venue = sample.venue.replace(scenario_model=name)
        alone, column = margins(sample, venue), table[table["model"] == name]
        assert column["requirement"].tolist() == alone.maintenance_margin.tolist()
        assert column["initial_requirement"].tolist() == alone.initial_margin.tolist()
        assert column["mmr"].tolist() == alone.mmr.tolist()
        losses = rc.scenario_losses(sample.accounts, venue, sample.tick)
        assert column["scenario"].tolist() == losses.scenario_name.tolist()
        split = rc.attribution(sample.accounts, venue, sample.tick)
        assert column["saved_by_hedging"].to_numpy() == pytest.approx(split.saved_by_hedging, abs=1e-6)


def test_the_separable_model_has_nothing_of_accounts_with_options(sample):
    function = {"type": "sqrt", "base": "0.02", "factor": "0"}
    rows = [
        row | ({} if row["marketType"] == "OPTION" else {"imfFunction": function, "mmfFunction": function})
        for row in sample.source["markets"]
    ]
    venue = rc.load_venue(sample.source | {"markets": rows})
    table = rc.compare_models(sample.accounts, venue, sample.tick, {"old": "separable", "new": "derive"})
    old = table[table["model"] == "old"].set_index("account")
    with_options = set(sample.positions.loc[sample.positions["market"].str.endswith(("-C", "-P")), "account"])
    assert set(old.index[old["requirement"].isna()]) == with_options
    assert set(old["scenario"]) == {"-"}
    linear = sample.positions[~sample.positions["account"].isin(with_options)]
    marks = sample.marks.set_index("market")["mark_price"]
    notional = (linear["quantity"].abs() * linear["market"].map(marks)).groupby(linear["account"]).sum()
    assert old["requirement"].dropna().to_dict() == pytest.approx((0.02 * notional).to_dict())
    assert not table.loc[table["model"] == "new", "requirement"].isna().any()
    with pytest.raises(RiskDataError, match="Function"):
        rc.compare_models(sample.accounts, sample.venue, sample.tick, ["separable"])


# ---- Refusals


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("derive", "must be a list of models"),
        (["derive", "derive"], "must not have the same model twice"),
        ([], "must have at least one model"),
        ({1: "derive"}, "must have texts as the names"),
        (["no such model"], "no such model"),
        (5, "must be a list of models"),
    ],
)
def test_wrong_models_are_refused_in_one_line(sample, models, message):
    with pytest.raises(RiskDataError, match=message) as error:
        rc.compare_models(sample.accounts, sample.venue, sample.tick, models)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", [rc.scenario_losses, rc.attribution])
def test_another_margin_model_is_refused(function):
    venue, accounts = rc.sample.two_accounts()
    with pytest.raises(RiskDataError, match=r"policy\.margin_model.*must be scenario"):
        function(accounts, venue, rc.Tick(0, {"SOL_USDC_PERP": 195.0}))


@pytest.mark.parametrize("block", [0, -1, 1.5, True, "8"])
def test_a_wrong_block_is_refused(sample, block):
    with pytest.raises(RiskDataError, match="must be a whole number >= 1"):
        rc.scenario_losses(sample.accounts, sample.venue, sample.tick, block=block)


def test_an_unknown_account_is_refused(sample):
    with pytest.raises(RiskDataError, match="must be an account of the state"):
        rc.attribution(sample.accounts, sample.venue, sample.tick, account=[1, 999_999])
    with pytest.raises(RiskDataError, match="must be an account of the state"):
        payoff_picture(sample.accounts, sample.venue, sample.tick, "nobody")


def test_a_scenario_with_the_name_of_a_column_is_refused(sample, tmp_path):
    model = {"scenarios": [{"move": "-0.1", "name": "group"}]}
    losses = rc.scenario_losses(sample.accounts, sample.venue.replace(scenario_model=model), sample.tick)
    with pytest.raises(RiskDataError, match="must not have the name of another column"):
        rc.io.write_scenario_losses(tmp_path / "losses.parquet", losses)
    assert list(tmp_path.iterdir()) == []


# ---- Pictures


def texts(picture):
    return [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


def test_the_table_of_binding_scenarios_counts_every_account(losses):
    drawn = texts(binding_picture(losses))
    numbers = [int(word.replace(",", "")) for word in drawn if re.fullmatch(r"[\d,]+", word)]
    assert sum(numbers) == len(losses.account)
    assert {"up", "down", "basis", "-18 %", "no loss"} <= set(drawn)


def test_the_map_marks_the_binding_scenario(sample, losses):
    for account in (1, 9, 28):
        row = int(np.searchsorted(losses.account, account))
        name = losses.scenario_name[row]
        drawn = payoff_picture(sample.accounts, sample.venue, sample.tick, account)
        words = texts(drawn)
        assert f"binding: {name}" in words or name in words
        assert any(f"requirement {losses.requirement[row]:,.2f} USDC" in word for word in words)


def test_the_map_is_the_loss_of_the_scenarios(sample):
    """At the place of a scenario the colour is that of its loss: the largest loss of the map has the last colour."""
    model = {"scenarios": [{"move": m, "vol": "same"} for m in ("-0.1", "0.1")], "range": "0.1"}
    venue = sample.venue.replace(scenario_model=model)
    positions = pd.DataFrame({"account": 1, "market": ["BTC_USDC_PERP"], "quantity": 1.0, "entry_price": 60_000.0})
    balances = pd.DataFrame({"account": 1, "asset": ["USDC"], "quantity": 1e5})
    accounts = rc.Accounts.from_frames(venue, positions, balances)
    words = texts(payoff_picture(accounts, venue, sample.tick, 1))
    assert "-7,800" in words  # 1.3 times the move of the scenarios
    assert "+7,800" in words
    assert "binding: -10 % same" in words


@pytest.mark.parametrize("model", ["tims10", "unit", "buckets", "oct10", "grid24"])
def test_every_model_can_be_drawn(sample, model):
    venue = sample.venue.replace(scenario_model=model)
    assert ET.fromstring(binding_picture(rc.scenario_losses(sample.accounts, venue, sample.tick))) is not None
    assert ET.fromstring(payoff_picture(sample.accounts, venue, sample.tick, 9)) is not None


def test_an_account_without_positions_has_no_map(sample):
    balances = pd.DataFrame({"account": ["a"], "asset": ["USDC"], "quantity": [1.0]})
    accounts = rc.Accounts.from_frames(sample.venue, sample.positions[:0], balances)
    with pytest.raises(RiskDataError, match="must hold positions"):
        payoff_picture(accounts, sample.venue, sample.tick, "a")
