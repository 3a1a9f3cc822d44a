"""Account ids that do not match, and columns that a table does not have: refused by name, never money lost."""

import numpy as np
import pandas as pd
import pytest

import riskcore as rc
from riskcore.io import read_accounts, read_table
from tests.test_units import BTC, SOURCE, altered


@pytest.fixture(scope="module")
def venue():
    return altered(lambda source: source["backstop"].clear(), SOURCE)


def positions(*accounts):
    columns = {"market": BTC, "quantity": 1.0, "entry_price": 100.0}
    return pd.DataFrame({"account": list(accounts)}).assign(**columns)


def balances(*accounts):
    return pd.DataFrame({"account": list(accounts)}).assign(asset="USDC", quantity=1_000.0)


def orders(*accounts):
    columns = {"market": BTC, "side": "bid", "price": 10.0, "quantity": 1.0}
    return pd.DataFrame({"account": list(accounts)}).assign(**columns)


def settings(*accounts):
    return pd.DataFrame({"account": list(accounts)}).assign(leverage_limit=5.0)


NEAR = [
    ("bob", "bob "), ("bob", "\tbob"), ("bob", "bob\u00a0"), ("bob", "\ufeffbob"), ("bob", "b\u200bob"),
    ("caf\u00e9", "cafe\u0301"), ("7", "007"), ("7", "7.0"), ("7", "+7"), ("-7", "-07"), ("0x7", " 0x7"),
    ("0xAbC", "0xabc"), ("bob", "BOB"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [pair for one, other in NEAR for pair in ((one, other), (other, one))])
def test_another_writing_of_an_id_is_refused_by_name(venue, one, other):
    with pytest.raises(rc.RiskDataError) as error:
        rc.Accounts.from_frames(venue, positions("x", one), balances("x", other))
    assert error.value.args[0] == (
        f"positions.account, row 1, value {one!r}: must be written as in balances ({other!r}), "
        "if it is the same account"
    )


def test_another_writing_is_refused_in_every_table(venue):
    known = positions("bob"), balances("bob")
    for table, frames in (
        ("orders", (*known, orders("bob "))),
        ("settings", (*known, None, settings("bob "))),
        ("balances", (positions("bob"), balances("bob", "bob "))),
        ("positions", (positions("bob", "bob "), balances("bob"))),
    ):
        with pytest.raises(
            rc.RiskDataError, match=rf"^{table}.account, row .*'bob '.* written as in .*\('bob'\)|'bob'"
        ):
            rc.Accounts.from_frames(venue, *frames)


def test_ids_that_stand_alike_in_every_table_are_accounts_of_their_own(venue):
    ids = ["007", "7", "bob", "bob ", "Ab", "aB", "caf\u00e9", "cafe\u0301", "\u20bf1"]
    found = rc.Accounts.from_frames(venue, positions(*ids), balances(*ids), orders(*ids), settings(*ids))
    assert found.ids.tolist() == sorted(ids)


def test_ids_that_differ_by_case_alone_are_refused_only_where_positions_lack_money(venue):
    found = rc.Accounts.from_frames(venue, positions("aB"), balances("aB", "Ab", "x"))
    assert len(found) == 3
    with pytest.raises(rc.RiskDataError, match=r"^balances.account, row 0, value 'aB': .* positions \('Ab'\)"):
        rc.Accounts.from_frames(venue, positions("aB", "Ab"), balances("aB"))


@pytest.mark.parametrize("name", ["orders", "settings"])
def test_an_account_that_has_only_orders_or_settings_is_refused(venue, name):
    tables = {"orders": orders("bob"), "settings": settings("bob")}
    tables[name] = {"orders": orders, "settings": settings}[name]("bob", "eve")
    rule = rf"^{name}.account, row 1, value 'eve': must have a row in positions or balances$"
    with pytest.raises(rc.RiskDataError, match=rule):
        rc.Accounts.from_frames(venue, positions("bob"), balances("bob"), tables["orders"], tables["settings"])


@pytest.mark.parametrize(
    ("given", "ids", "hint"),
    [(7, ["7", "8"], "'7', text"), ("7", [7, 8], "7, a whole number"), ("b ", ["b"], "'b', text")],
)
def test_a_provider_or_fill_of_another_writing_is_told_which_is_near(venue, given, ids, hint):
    with_provider = altered(lambda source: source.update(backstop=[{"account": given}]))
    rule = rf"must have a row in balances or positions: did you mean {hint}\?$"
    with pytest.raises(rc.RiskDataError, match=rf"^venue.backstop\[0\].account, value '{given}': {rule}"):
        rc.Accounts.from_frames(with_provider, positions(*ids), balances(*ids))
    accounts = rc.Accounts.from_frames(venue, positions(*ids), balances(*ids))
    fills = positions(given).rename(columns={"entry_price": "price"})
    with pytest.raises(
        rc.RiskDataError, match=rf"^fills.account, .*must be an account of the state: did you mean {hint}\?$"
    ):
        accounts.with_fills(venue, fills)


def written(folder, ids, other):
    (folder / "p.csv").write_text("account,market,quantity,entry_price\n" + "".join(f"{i},{BTC},1,100\n" for i in ids))
    (folder / "b.csv").write_text("account,asset,quantity\n" + "".join(f"{i},USDC,1000\n" for i in other))
    return folder / "p.csv", folder / "b.csv"


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (["7", "12"], ["7"], [7, 12]),
        (["007", "12"], ["007"], ["007", "12"]),
        (["12"], ["007", "12"], ["007", "12"]),
        (['"12"'], ["12"], [12]),
        (["NA", "null"], ["nan", "NA"], ["NA", "nan", "null"]),
        (["1e5"], ["100000"], ["100000", "1e5"]),
        (["9223372036854775808", "1"], ["1"], ["1", "9223372036854775808"]),
        (["-3", "0"], ["0"], [-3, 0]),
        (["True"], ["True"], ["True"]),
    ],
)
def test_a_csv_file_changes_no_id(venue, tmp_path, one, other, found):
    accounts = read_accounts(venue, *written(tmp_path, one, other))
    assert accounts.ids.tolist() == found
    assert accounts.ids.dtype == (np.int64 if isinstance(found[0], int) else object)


@pytest.mark.parametrize(("one", "other"), [("007", "7"), (" 7", "7"), ("7.0", "7"), ("+7", "7"), ("7", "007")])
def test_another_writing_of_a_number_in_a_csv_file_is_refused(venue, tmp_path, one, other):
    rule = rf"^positions.account, row 0, value '{one}': must be written as in balances".replace("+", r"\+")
    with pytest.raises(rc.RiskDataError, match=rule):
        read_accounts(venue, *written(tmp_path, [one], [other]))


def test_a_csv_table_alone_keeps_its_ids(venue, tmp_path):
    path, _ = written(tmp_path, ["007", "8"], [])
    assert read_table(path, "positions")["account"].tolist() == ["007", "8"]
    path, _ = written(tmp_path, ["7", "8"], [])
    assert read_table(path, "positions")["account"].tolist() == [7, 8]
    path, _ = written(tmp_path, ["7", ""], [])
    with pytest.raises(rc.RiskDataError, match=r"^positions.account, row 1, value nan: must not be missing"):
        rc.Accounts.from_frames(
            altered(lambda source: source["backstop"].clear()), read_table(path, "positions"), balances(7)
        )


@pytest.mark.parametrize(
    ("table", "column", "near"),
    [
        ("positions", "settleprice", "settle_price"), ("positions", "settlePrice", "settle_price"),
        ("settings", "leverage-limit", "leverage_limit"), ("orders", "reduceonly", "reduce_only"),
        ("balances", "Lent", "lent"), ("settings", "unsetled", "unsettled"), ("positions", "zzz", None),
    ],
)  # fmt: skip
def test_a_column_that_a_table_does_not_have_is_refused(venue, table, column, near):
    frames = {"positions": positions(1), "balances": balances(1), "orders": orders(1), "settings": settings(1)}
    frames[table] = frames[table].assign(**{column: 1.0})
    with pytest.raises(rc.RiskDataError) as error:
        rc.Accounts.from_frames(venue, *frames.values())
    told = f"did you mean {near}? Its columns are account, " if near else "Its columns are account, "
    assert error.value.args[0].startswith(f"{table}.{column}: is not a column of this table: {told}")
