"""Computes the table of record of a tick: values, changes, and the coefficients of all charges."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError
from ..kernels.scenario_layouts import (
    ACCOUNT_MINIMUM,
    AT_PRICE,
    EXPECTED_SHORTFALL,
    GROUP_MINIMUM,
    INVERSE_IN_COIN,
    INVERSE_IN_MONEY,
    NO_MINIMUM,
    VALUE_AT_RISK,
    WORST,
    ScenarioArrays,
)
from .charges import Figures, charges_of, depeg_of
from .instruments import Instruments, Kind
from .model import OTHERS, ScenarioModel, Spreads
from .plain import aligned
from .record import HOURS_PER_YEAR, OptionRecord, Terms, padded, price_options, scenario_columns, terms_of
from .scenario_market import ScenarioMarket

_MEASURES = {"worst": WORST, "var": VALUE_AT_RISK, "es": EXPECTED_SHORTFALL}
_MINIMA = {"group": GROUP_MINIMUM, "account": ACCOUNT_MINIMUM}


def moved_collateral(model: ScenarioModel, instruments: Instruments, underlying: Int) -> tuple[Bool, Bool]:
    """Whether each instrument is a spot balance that moves with an underlying: a positive one, and a borrow."""
    moved = model.collateral_in_scenarios
    with_underlying: Bool = (instruments.kind == Kind.SPOT) & (underlying >= 0)
    long = with_underlying & (np.isin(instruments.symbol, moved) if isinstance(moved, tuple) else bool(moved))
    return long, with_underlying if model.borrow_margin == "scenario" else long


class TableFields(NamedTuple):
    """What a table of record has beside model, instruments and market; see `ScenarioTable`."""

    terms: Terms
    value: Float
    greeks: Float
    available: Bool
    arrays: ScenarioArrays


class TableBuilder:
    """Computes a table of record."""

    def __init__(self, model: ScenarioModel, instruments: Instruments, market: ScenarioMarket) -> None:
        self.model, self.instruments, self.market = model, instruments, market
        self.in_coin = model.numeraire in instruments.underlyings
        self.terms = terms_of(instruments, market, model)
        self.index = market.index
        self.columns = scenario_columns(model, instruments.underlyings, market.index, self.in_coin)
        self._must_fit()
        self.underlying = self._underlyings()

    def _must_fit(self) -> None:
        """Refuse instruments that the numeraire or the moves of the model do not allow."""
        instruments, model = self.instruments, self.model
        linear = ~instruments.inverse & (instruments.kind != Kind.SPOT)
        if self.in_coin:
            coin = instruments.underlyings.index(model.numeraire)
            wrong = linear | ((instruments.kind != Kind.SPOT) & (instruments.underlying != coin))
            if wrong.any():
                rule = f"must be an inverse contract or coin-settled option of {model.numeraire}, the numeraire"
                raise RiskDataError("scenario_model", "numeraire", rule, value=instruments.symbol[int(wrong.argmax())])
        inverse = np.unique(instruments.underlying[instruments.inverse])
        wrong = ~(1.0 + self.columns.move[inverse] > 0.0).all(axis=1)
        if wrong.any():
            name = instruments.underlyings[inverse[wrong.argmax()]]
            rule = f"must have moves above -1 of {name!r}, which has inverse contracts"
            raise RiskDataError("scenario_model", "scenarios", rule)

    def _underlyings(self) -> Int:
        """Underlying of each instrument: of a spot balance the one that the model names."""
        found = self.instruments.underlying.copy()
        rows = {name: row for row, name in enumerate(self.instruments.underlyings)}
        for i in np.flatnonzero(self.instruments.kind == Kind.SPOT):
            asset = self.instruments.symbol[i]
            found[i] = rows.get(self.model.collateral_underlying.get(asset, asset), found[i])
        return found

    def fields(self) -> TableFields:
        """Return the table."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return self._fields()

    def _fields(self) -> TableFields:
        model, instruments, market, columns = self.model, self.instruments, self.market, self.columns
        count, underlyings, width = len(instruments), len(instruments.underlyings), len(columns.vol)
        kind, mark = instruments.kind, market.mark
        is_option, is_spot = kind == Kind.OPTION, kind == Kind.SPOT
        inverse = instruments.inverse & ~is_option
        u = self.underlying
        index = np.append(self.index, np.nan)[u]
        move, shift = (np.concatenate([each, np.zeros((1, width))])[u] for each in (columns.move, columns.shift))
        value, row, units = np.full(count, np.nan), np.full((count, width), np.nan), np.ones(count)

        linear = ~instruments.inverse & ~is_option & ~is_spot
        value[linear] = mark[linear]
        row[linear] = mark[linear, None] * move[linear] + shift[linear]
        base = index if model.inverse_base == "index" else mark
        units[inverse] = 1.0 / base[inverse]
        relative = move[inverse] + shift[inverse] / base[inverse, None]
        money = np.ones(count) if self.in_coin else index
        value[inverse] = -money[inverse] / mark[inverse]
        row[inverse] = (units * money)[inverse, None] * (relative / (1.0 + relative) if self.in_coin else relative)
        self._fill_spot(value, row, is_spot, move, shift, index)
        options = self._fill_options(value, row, is_option, index)

        greeks, basis, decay = np.zeros((count, 4)), np.zeros((count, 2)), np.zeros(count)
        greeks[:, 0] = np.where(is_spot, 0.0, units)
        greeks[options.rows], basis[options.rows], decay[options.rows] = options.greeks, options.basis, options.decay
        if self.in_coin:
            forward = self.terms.forward[instruments.term[options.rows]]
            basis[options.rows] = self._basis_in_coin(options, forward)
            decay[options.rows] /= forward
            greeks[options.rows, 0] -= options.value / forward
        delta = greeks[:, 0].copy()
        if model.forward_source == "spot":  # what moves is the index
            delta[linear] *= mark[linear] / index[linear]
        price = np.ones(underlyings) if self.in_coin else self.index
        return self._assembled(value, row, units, delta, price, greeks, basis, decay)

    def _fill_spot(self, value: Float, row: Float, is_spot: Bool, move: Float, shift: Float, index: Float) -> None:
        """Fill in spot balances: their price, and its move if the model moves collateral or borrows."""
        model, names, mark = self.model, np.array(self.instruments.symbol), self.market.mark
        is_moved = moved_collateral(model, self.instruments, self.underlying)[1]
        value[is_spot], row[is_spot] = mark[is_spot], 0.0
        if self.in_coin:
            coin = self.instruments.underlyings.index(model.numeraire)
            value[is_spot] = np.where(names == model.numeraire, 1.0, mark / self.index[coin])[is_spot]
            wrong = is_moved & (self.underlying != coin)
            if wrong.any():
                rule = f"must not have {names[wrong.argmax()]!r}: it moves against {model.numeraire}, the numeraire"
                raise RiskDataError("scenario_model", "collateral_in_scenarios", rule)
        else:
            relative = move[is_moved] + shift[is_moved] / index[is_moved, None]
            row[is_moved] = value[is_moved, None] * relative

    def _fill_options(self, value: Float, row: Float, is_option: Bool, index: Float) -> OptionRecord:
        """Fill in options: the value of record, and the change; the shocked value where the model discounts."""
        model, instruments, market = self.model, self.instruments, self.market
        basis = model.charges("basis")
        if len(basis) > 1:
            raise RiskDataError("scenario_model", "contingencies", "must have one 'basis'")
        factors = [
            float(model.moves.get(name, model.moves.get(OTHERS, 1))) if basis and basis[0].concerns(name) else 0.0
            for name in instruments.underlyings
        ]
        moves = [float(basis[0].up), float(basis[0].down)] if basis else [0.0, 0.0]
        hours = max((float(each.hours) for each in model.charges("theta")), default=0.0)
        options = price_options(
            instruments, market, model, self.terms, self.columns, np.outer(moves, factors), hours / HOURS_PER_YEAR
        )
        rows, term = options.rows, instruments.term[options.rows]
        forward, shocked = self.terms.forward[term], options.shocked
        base = options.value
        if self.in_coin:
            base, shocked = base / forward, shocked / options.forward
        if model.price_source == "mark":
            base = market.mark[rows] * np.where(instruments.inverse[rows] & (not self.in_coin), forward, 1.0)
        change = shocked - base[:, None]
        if model.window == "scale":
            left = np.minimum(self.terms.seconds[term] / float(model.window_seconds), 1.0)
            change *= left[:, None]
            shocked = base[:, None] + change
        value[rows] = base
        row[rows] = change if model.discount is None else shocked
        return options

    def _basis_in_coin(self, options: OptionRecord, forward: Float) -> Float:
        """Changes by the moves of the basis contingency, in coin."""
        rows = options.rows
        (contingency,) = self.model.charges("basis") or (None,)
        if contingency is None:
            return np.zeros((len(rows), 2))
        term, moves = self.instruments.term[rows], np.array([float(contingency.up), float(contingency.down)])
        moves *= float(self.model.moves.get(self.model.numeraire, self.model.moves.get(OTHERS, 1)))
        moved = self.terms.fixed[term, None] + self.terms.variable[term, None] * (1.0 + moves)
        changed: Float = (options.value[:, None] + options.basis) / moved - (options.value / forward)[:, None]
        return changed

    def _assembled(
        self,
        value: Float,
        row: Float,
        units: Float,
        delta: Float,
        price: Float,
        greeks: Float,
        basis: Float,
        decay: Float,
    ) -> TableFields:
        """Put the arrays together, with zeros for instruments that the tick has no complete data of."""
        model, instruments, market, columns = self.model, self.instruments, self.market, self.columns
        kind, u, terms = instruments.kind, self.underlying, self.terms
        count, number, underlyings = len(instruments), len(terms.years), len(price)
        is_option, is_spot = kind == Kind.OPTION, kind == Kind.SPOT
        im_factor = float(model.im_factor) + depeg_of(model, market)
        figures = Figures(u, value, units, price, terms.years, im_factor, self.in_coin)
        charges = charges_of(model, instruments, market, figures)
        available = self._available(value, row)
        strike = np.full(count, -1, np.int32)
        if is_option.any():
            keys = np.stack([instruments.term[is_option], instruments.strike[is_option]], axis=1)
            strike[is_option] = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
        groups = model.groups_of(instruments.underlyings)
        group, offset = np.zeros(underlyings, np.int32), np.empty((underlyings, 2))
        for g, each in enumerate(groups):
            members = list(each.members)
            group[members] = g
            offset[members] = float(each.alpha), np.inf if each.cap is None else float(each.cap)
        if self.in_coin:
            offset[:, 1] /= self.index
        discount = np.ones((number + underlyings, 2))
        discount[:number] = self._discounts()
        weights = np.zeros(number + underlyings)
        for contingency in model.charges("basis"):
            concerned = np.array([contingency.concerns(name) for name in instruments.underlyings], bool)
            share = float(contingency.add) + float(contingency.mult) * terms.years
            weights[:number] = share * concerned[instruments.term_underlying]
        level, brackets, least = self._minimum()
        short_minimum, larger_of = self._short_minimum()
        known = available[:, None]
        reach = np.abs(row).max(axis=1, initial=0.0) * max(float(columns.weight.max(initial=0.0)), 1.0)
        is_discounted = model.discount is not None
        reach = reach * max(float(discount.max(initial=1.0)), 1.0) + np.where(
            is_discounted & is_option, np.abs(value), 0
        )
        reach *= max(float(model.mm_factor), im_factor) * float(model.im_multiplier) * (1 + float(model.measure.buffer))
        reach += charges.charge.max(axis=1, initial=0.0)
        inverse = instruments.inverse & ~is_option
        index = np.append(self.index, np.nan)[u]
        in_coins = is_option & instruments.inverse & (not self.in_coin)
        scenarios, initial = len(model.rows), model.initial_rows
        alpha = model.measure.alpha
        tail = [1.0 if alpha is None else float(1 - alpha), float(model.measure.stressed_share)]
        has_deltas = bool(
            charges.roll.any() or charges.spread.any() or charges.floor.any() or charges.delta_shock[:, 0].any()
        )
        arrays = ScenarioArrays(
            row=aligned(np.where(known, row, 0.0)),
            value=np.where(available, value, 0.0),
            basis=np.where(known, basis, 0.0),
            delta=np.where(available, delta, 0.0),
            decay=np.where(available & charges.theta, decay, 0.0),
            funding=charges.funding,
            reach=np.where(available, reach, 0.0),
            charge=np.where(known, charges.charge, 0.0),
            perpetual_charge=np.where(known, charges.perpetual_charge, 0.0),
            strike_charge=np.where(known, charges.strike_charge, 0.0),
            order_charge=np.where(available, charges.order_charge, 0.0),
            minimum=least,
            short_minimum=short_minimum,
            kind=kind,
            is_call=instruments.is_call,
            moves_long=~is_spot | moved_collateral(model, instruments, u)[0],
            underlying=u.astype(np.int32),
            term=np.where(
                kind == Kind.PERPETUAL, number + instruments.underlying, np.where(is_spot, -1, instruments.term)
            ).astype(np.int32),
            strike=strike,
            order_rule=np.where(inverse, INVERSE_IN_COIN if self.in_coin else INVERSE_IN_MONEY, AT_PRICE).astype(
                np.uint8
            ),
            order_scale=np.where(in_coins & np.isfinite(index), index, 1.0),
            discount=discount,
            basis_weight=weights,
            roll=np.nan_to_num(charges.roll),
            years=np.append(terms.years, np.zeros(underlyings)),
            group=group,
            price=np.nan_to_num(price),
            offset=offset,
            floor=charges.floor,
            delta_shock=np.where(np.isnan(charges.delta_shock), np.inf, charges.delta_shock),
            spread=np.nan_to_num(charges.spread),
            weight=aligned(columns.weight),
            dampener=np.nan_to_num(columns.dampener),
            coin=np.nan_to_num(self.index[:, None] * (1.0 + columns.move) + columns.shift),
            price_move=self._price_moves(),
            is_skew=columns.is_skew,
            probability=columns.probability,
            is_stress=columns.is_stress,
            group_size=np.array([len(each.members) for each in groups], np.int32),
            brackets=brackets,
            **self._spreads(),
            scaling=charges.scaling,
            tail=np.array(tail),
            scenarios=scenarios,
            initial_first=0 if initial is None else len(padded(scenarios)),
            initial_scenarios=scenarios if initial is None else len(initial),
            mm_factor=float(model.mm_factor),
            im_factor=im_factor,
            im_multiplier=float(model.im_multiplier),
            buffer=1.0 + float(model.measure.buffer),
            round_worst=0.0 if model.round_worst is None else 10.0**model.round_worst,
            round_initial=0.0 if model.round_initial is None else 10.0**model.round_initial,
            measure=_MEASURES[model.measure.kind],
            minimum_level=level,
            larger_of=larger_of,
            annual_spread=charges.annual_spread,
            by_term=is_discounted or bool(columns.is_skew.any()),
            is_discounted=is_discounted,
            has_basis=bool(model.charges("basis")),
            has_offset=bool((offset[:, 0] < 1.0).any() or (offset[:, 1] < np.inf).any()),
            has_dampener=bool(columns.dampener.any()),
            has_strikes=bool(charges.strike_charge.any()),
            has_deltas=has_deltas,
            has_floor=bool(charges.floor.any()),
            has_spreads=model.spreads is not None,
        )
        return TableFields(terms, value, greeks, available, arrays)

    def _available(self, value: Float, row: Float) -> Bool:
        """Whether the tick has complete data of each instrument; refuses entries that are not finite with them."""
        instruments, market = self.instruments, self.market
        kind, is_option = instruments.kind, instruments.kind == Kind.OPTION
        forward = np.append(self.terms.forward, np.nan)[instruments.term]
        needed = np.where(is_option, forward * market.volatility, market.mark)
        if self.model.price_source == "mark":
            needed = np.where(is_option, needed * market.mark, needed)
        index = np.where(self.underlying >= 0, np.append(self.index, np.nan)[self.underlying], 1.0)
        if self.in_coin:
            coin = self.instruments.underlyings.index(self.model.numeraire)
            index = np.where(kind == Kind.SPOT, self.index[coin], index)
        complete = np.isfinite(needed) & np.isfinite(index)
        wrong = complete & ~(np.isfinite(value) & np.isfinite(row).all(axis=1))
        if wrong.any():
            rule = "must have a finite value and finite changes in every scenario"
            raise RiskDataError("scenario_table", instruments.symbol[int(wrong.argmax())], rule)
        return complete

    def _discounts(self) -> Float:
        """Factors of a shocked value that is at least 0, and below, of each term."""
        discount, terms = self.model.discount, self.terms
        if discount is None:
            return np.ones((len(terms.years), 2))
        rate = terms.given_rate
        gain = float(discount.base_long) * np.exp(
            -terms.years * (rate * float(discount.rate_mult_long) + float(discount.rate_add_long))
        )
        loss = np.ones_like(gain)
        if discount.base_short is not None:
            exponent = rate * float(discount.rate_mult_short) + float(discount.rate_add_short)
            loss = np.minimum(1.0 / terms.discount, float(discount.base_short) / np.exp(-terms.years * exponent))
        return np.stack([gain, loss], axis=1)

    def _minimum(self) -> tuple[int, Float, Float]:
        """Level and brackets of the minimum requirement, and its raw amount of a long and of a short unit."""
        minimum, instruments = self.model.minimum, self.instruments
        least, brackets = np.zeros((len(instruments), 2)), np.array([[np.inf, 1.0]])
        if minimum is None:
            return NO_MINIMUM, brackets, least
        if minimum.per == "contract":
            of = instruments.kind != Kind.SPOT
            least[of] = (float(minimum.rate) / instruments.contract[of])[:, None]
        else:
            of = instruments.kind == Kind.OPTION
            least[of, 1] = float(minimum.rate) / instruments.contract[of]
        if minimum.brackets:
            brackets = np.array([[np.inf if top is None else float(top), float(m)] for top, m in minimum.brackets])
        return _MINIMA[minimum.level], brackets, least

    def _short_minimum(self) -> tuple[Float, bool]:
        """Minimum of a short option, and whether the larger of calls and puts counts."""
        spreads, instruments = self.model.spreads, self.instruments
        rate = 0.0 if spreads is None else float(spreads.short_option_minimum)
        of = np.where(instruments.kind == Kind.OPTION, rate / instruments.contract, 0.0)
        return of, spreads is not None and spreads.som_count == "larger"

    def _price_moves(self) -> Int:
        """Number of each scenario's price move of each underlying, 0 for none; of a model without spreads 0."""
        moves = np.stack([self.columns.move, self.columns.shift], axis=-1)
        numbers = np.zeros(moves.shape[:2], np.int64)
        if self.model.spreads is not None:
            for u, each in enumerate(moves):
                numbers[u] = np.where(
                    each.any(axis=1), 1 + np.unique(each, axis=0, return_inverse=True)[1].reshape(-1), 0
                )
        return numbers

    def _spreads(self) -> dict[str, Any]:
        """Spreads between tiers and between underlyings as arrays; legs of underlyings that are not there are none."""
        spreads, instruments = self.model.spreads or Spreads(), self.instruments
        rows = {name: row for row, name in enumerate(instruments.underlyings)}
        days = np.append(self.terms.seconds / 86_400.0, np.zeros(len(rows)))
        tops = np.array([float(top) for top in spreads.tiers])
        intra = [each for each in spreads.intra if each.underlying in rows]
        legs = [leg for each in spreads.inter for leg in each.legs]
        return {
            "tier": (days[:, None] > tops).sum(axis=1),
            "intra_underlying": np.array([rows[each.underlying] for each in intra], np.int64),
            "intra_tier": np.array([[leg.tier or 0 for leg in each.legs] for each in intra], np.int64).reshape(-1, 2),
            "intra_delta": np.array([[float(leg.delta) for leg in each.legs] for each in intra]).reshape(-1, 2),
            "intra_charge": np.array([float(each.charge) for each in intra]),
            "inter_span": np.cumsum([0, *(len(each.legs) for each in spreads.inter)]),
            "inter_underlying": np.array([rows.get(leg.underlying or "", -1) for leg in legs], np.int64),
            "inter_side": np.array([leg.side == "A" for leg in legs], bool),
            "inter_delta": np.array([float(leg.delta) for leg in legs]),
            "inter_rate": np.array([float(each.rate) for each in spreads.inter]),
        }
