"""Pictures of scenario margin: what an account loses over price and volatility, and which scenarios bind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._typing import Float
from ..boundary import RiskDataError, as_text, counted
from ..margin import NO_LOSS, ScenarioLosses, scenario_losses
from ..market import Tick
from ..scenario import Portfolios, ScenarioModel, ScenarioTable, Vol
from ..state import Accounts
from ..venue import Venue
from .heat_maps import Bar, Mark, counts, percent, surface

_RULES = ("down", "points_down", "percent_down", "same", "percent_up", "points_up", "up")
"""Volatility rules of a map, from below."""

_CHANGES = (-0.5, 0.0, 0.5)
"""Relative changes of volatility of a map, of a model whose scenarios leave volatility as it is."""

_MOVES, _LEVELS, _MARGIN = 49, 25, 1.3  # columns and rows of a map, and how far it reaches beyond the scenarios
_MOST_COLUMNS = 25  # of a table of moves


def payoff_picture(accounts: Accounts, venue: Venue, tick: Tick, account: int | str) -> str:
    """Draw how the value of an account changes over price move and volatility, as the venue's scenario model counts it.

    The map has the change of the group of underlyings with the largest requirement, unweighted. Where the model has
    volatility rules, its levels are these; between them the change is interpolated. Dots are the scenarios of the
    model, the ring is the binding one; scenarios that lie beyond the map are bars of their weighted losses.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue, with the margin model "scenario".
    tick : Tick
        The prices.
    account : int or str
        The account's id.

    Returns
    -------
    str
        The picture, SVG.

    Raises
    ------
    RiskDataError
        The account is not there or holds nothing, or as of `riskcore.scenario_losses`.

    Examples
    --------
    >>> from riskcore.run import payoff_picture
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(10)
    >>> payoff_picture(sample.accounts, sample.venue, sample.tick, 1).startswith("<svg")
    True
    """
    losses = scenario_losses(accounts, venue, tick)
    try:
        row = accounts.row_of(account)
    except KeyError:
        raise RiskDataError("accounts", "account", "must be an account of the state", value=as_text(account)) from None
    group, binding = int(losses.group[row]), int(losses.scenario[row])
    if group < 0:
        raise RiskDataError("accounts", "account", "must hold positions", value=as_text(account))
    table, portfolio = losses.table, _one(losses.portfolios, row)
    scenarios, own = _placed(losses, group), 0.0 - table.losses(portfolio, 0, 1)[0, group]
    levels = _levels(scenarios)
    reach = _MARGIN * max((abs(each.move) for each in scenarios if each.on_map), default=0.1)
    moves = np.linspace(max(-reach, -0.99), max(reach, 0.01), _MOVES)
    height = np.linspace(0.0, len(levels) - 1.0, _LEVELS)
    change = _changes(table, portfolio, group, moves, levels)
    change = np.stack([np.interp(height, np.arange(len(levels)), column) for column in change.T], axis=1)
    marks, bars = [], []
    for number, (each, loss) in enumerate(zip(scenarios, own.tolist(), strict=True)):
        if each.on_map:
            marks.append(Mark(each.move, _height(each, levels), f"binding: {each.name}", number == binding))
        else:
            bars.append(Bar(each.name, loss, f"{loss:,.0f}", number == binding))
    unit = venue.settle_asset if table.model.numeraire == "settle" else table.model.numeraire
    worst = losses.scenario_name[row]
    subtitle = f"{losses.groups[group]}: requirement {losses.requirement[row]:,.2f} {unit}, binding scenario {worst}"
    return surface(
        f"Account {account}: change of value over price move and volatility", subtitle, moves, height, change, marks,
        bars, level_names={float(n): name.replace("_", " ") for n, name in enumerate(levels)},
        bars_title="Beyond the map: weighted loss",
    )  # fmt: skip


def binding_picture(losses: ScenarioLosses) -> str:
    """Draw how many accounts each scenario binds.

    The scenarios of weight 1 are a table of price moves and volatility rules; the others are bars beside it.

    Parameters
    ----------
    losses : ScenarioLosses
        As of `riskcore.scenario_losses`.

    Returns
    -------
    str
        The picture, SVG.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.run import binding_picture
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> binding_picture(rc.scenario_losses(sample.accounts, sample.venue, sample.tick)).startswith("<svg")
    True
    """
    scenarios = _placed(losses, 0)
    bound = np.bincount(losses.scenario[losses.scenario >= 0], minlength=len(scenarios)).tolist()
    levels = _levels(scenarios)
    edges, columns = _columns([each.move for each in scenarios if each.on_map])
    count, bars = np.full((len(levels), len(columns)), -1), []
    for each, number in zip(scenarios, bound, strict=True):
        if each.on_map:
            y, x = len(levels) - 1 - round(_height(each, levels)), int(np.searchsorted(edges, each.move, "right")) - 1
            count[y, x] = max(count[y, x], 0) + number
        else:
            bars.append(Bar(each.name, number, f"{number:,}"))
    without = int(np.count_nonzero(losses.scenario < 0))
    bars.append(Bar(NO_LOSS, without, f"{without:,}"))
    rows = [y for y in range(len(levels)) if (count[y] >= 0).any()]
    names = [name.replace("_", " ") for name in levels][::-1]
    return counts(
        f"Binding scenario of {counted(len(losses.account), 'account')}",
        "number of accounts whose requirement each scenario sets", columns, [names[y] for y in rows], count[rows], bars,
        bars_title="Beside the table",
    )  # fmt: skip


class _Place(NamedTuple):
    """A scenario: relative move and change of volatility of one underlying, and whether it has a place on a map."""

    name: str
    move: float
    vol: str
    vol_change: float
    on_map: bool


def _one(portfolios: Portfolios, row: int) -> Portfolios:
    """The portfolio of one account."""
    rows = slice(int(portfolios.span[row]), int(portfolios.span[row + 1]))
    span = np.array([0, rows.stop - rows.start], np.uint32)
    return Portfolios(span, portfolios.instrument[rows], portfolios.size[rows])


def _placed(losses: ScenarioLosses, group: int) -> list[_Place]:
    """Scenarios with the moves of the first underlying of a group; the basis contingency, which has two, has none.

    On a map are those of weight 1 in which no time passes, but for the rotations of the skew.
    """
    model, instruments = losses.table.model, losses.table.instruments
    u = model.groups_of(instruments.underlyings)[group].members[0]
    name, index = instruments.underlyings[u], float(losses.table.market.index[u])
    places = []
    for row in model.rows:
        move = float(row.move_of(name) or 0) + float(row.shift_of(name) or 0) / index
        on_map = row.weight == 1 and not row.hours and row.vol not in (Vol.LINEAR, Vol.ABS)
        places.append(_Place(row.name, move, row.vol.name.lower(), float(row.vol_change_of(name)), on_map))
    basis = losses.scenarios["name"].tolist()[len(places) :]
    return places + [_Place(each, 0.0, "same", 0.0, False) for each in basis]


def _levels(scenarios: list[_Place]) -> dict[str, tuple[str, float]]:
    """Levels of volatility from below: their names, and a rule and a change for a scenario of the level."""
    given = {each.vol for each in scenarios if each.on_map}
    rules = [rule for rule in _RULES if rule == "same" or rule in given]
    if len(rules) > 1:
        return {rule: (rule, 0.0) for rule in rules}
    return {percent(change) if change else "same": ("relative", change) for change in _CHANGES}


def _height(scenario: _Place, levels: dict[str, tuple[str, float]]) -> float:
    """Height of a scenario on a map."""
    names = list(levels)
    if scenario.vol == "relative" and names[0] not in _RULES:
        return float(np.interp(scenario.vol_change, _CHANGES, range(len(_CHANGES))))
    return float(names.index(scenario.vol if scenario.vol in names else "same"))


def _changes(
    table: ScenarioTable, portfolio: Portfolios, group: int, moves: Float, levels: dict[str, tuple[str, float]]
) -> Float:
    """Change of a group's value at each level and move, shape (levels, moves), as the model counts it."""
    underlying = table.model.groups_of(table.instruments.underlyings)[group].members[0]
    factor = float(table.model.moves.get(table.instruments.underlyings[underlying], 1)) or 1.0
    rows = [
        {"move": repr(move / factor), "vol": rule} | ({"vol_change": repr(change)} if rule == "relative" else {})
        for rule, change in levels.values()
        for move in moves.tolist()
    ]
    kept = {name: value for name, value in table.model.to_dict().items() if name not in _OF_SCENARIOS}
    model = ScenarioModel.read(kept | {"scenarios": rows})
    of_map = ScenarioTable.of(model, table.instruments, table.market)
    change = of_map.losses(portfolio, 0, 1)[0, group, : len(rows)]
    return np.asarray(change).reshape(len(levels), len(moves))


_OF_SCENARIOS = "scenarios", "grid", "tails", "im_scenarios", "measure", "dampener"
"""Keys of a model that a map replaces."""


def _columns(moves: list[float]) -> tuple[Float, list[str]]:
    """Lower edges of the columns of a table of moves, and their names: a column per move, or of equal width."""
    found = np.unique(moves)
    if len(found) > _MOST_COLUMNS:
        found = np.linspace(found[0], found[-1], _MOST_COLUMNS + 1)[:-1]
        return found, [percent(round(move, 3)) for move in found.tolist()]
    return found, [percent(move) for move in found.tolist()]
