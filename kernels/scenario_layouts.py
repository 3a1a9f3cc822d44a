"""Arrays of scenario margin: the table of record of a tick, portfolios, and the work space of a requirement."""

from typing import NamedTuple

import numpy as np

COLUMNS = 16
"""The number of scenarios is padded to a multiple of this one."""

PERPETUAL, FUTURE, OPTION, SPOT = 0, 1, 2, 3
"""Kinds of instruments, as riskcore.scenario.Kind has them."""

AT_PRICE, INVERSE_IN_COIN, INVERSE_IN_MONEY = 0, 1, 2
"""How the limit of an order is compared with the shocked price of its instrument."""

WORST, VALUE_AT_RISK, EXPECTED_SHORTFALL = 0, 1, 2
"""Measures of the losses of a group."""

NO_MINIMUM, GROUP_MINIMUM, ACCOUNT_MINIMUM = 0, 1, 2
"""What a minimum requirement applies to."""


class PortfolioColumns(NamedTuple):
    """Rows and orders of A accounts; see riskcore.scenario.Portfolios.

    span              uint32   (A+1,)
    instrument        uint16   (P,)    ascends by rank inside an account; size 0 if there are orders alone
    size              float64  (P,)    signed
    order_span        uint32   (A+1,)
    order_instrument  uint16   (O,)
    order_size        float64  (O,)    signed
    order_price       float64  (O,)    > 0
    """

    span: np.ndarray
    instrument: np.ndarray
    size: np.ndarray
    order_span: np.ndarray
    order_instrument: np.ndarray
    order_size: np.ndarray
    order_price: np.ndarray


class ScenarioArrays(NamedTuple):
    """The table of record: M instruments, U underlyings, N terms and U perpetual terms after them, C columns.

    The columns are the scenarios of the maintenance requirement, padded by copies of the last one, and after them those
    of the initial requirement, where the model has some of its own. Amounts are in the numeraire, per unit of size. A
    pair of figures is that of the maintenance requirement and that of the initial one.

    row               float64  (M, C)  change of value; of an option in a discounted model the shocked value
    value             float64  (M,)    value of record
    basis             float64  (M, 2)  change of an option by the up and by the down move of the basis contingency
    delta             float64  (M,)    base units per unit of size
    decay             float64  (M,)    change of value as the hours of the theta charge pass
    funding           float64  (M,)    next payment of a long
    reach             float64  (M,)    bound of what a unit adds to the requirement, scale of the rounding errors
    charge            float64  (M, 4)  charges per unit: maintenance long and short, initial long and short
    perpetual_charge  float64  (M, 2)  more charge per unit where the account holds a perpetual of the underlying
    strike_charge     float64  (M, 2)  charge per unit of a short option that no option of its strike and expiry offsets
    order_charge      float64  (M,)    charge per unit of an open order, of the initial requirement
    minimum           float64  (M, 2)  raw minimum per unit of a long, of a short
    short_minimum     float64  (M,)    minimum per unit of a short option
    kind              uint8    (M,)    PERPETUAL, FUTURE, OPTION, SPOT
    is_call           bool     (M,)
    moves_long        bool     (M,)    false for a balance that moves in the scenarios only where it is borrowed
    underlying        int32    (M,)    row; -1 for none
    term              int32    (M,)    row; -1 for none; N + underlying of a perpetual
    strike            int32    (M,)    number of the expiry and strike of an option; -1 for none
    order_rule        uint8    (M,)    AT_PRICE, INVERSE_IN_COIN, INVERSE_IN_MONEY
    order_scale       float64  (M,)    numeraire per unit of the limit
    discount          float64  (N+U, 2)  factor of a shocked value of the term that is >= 0, and < 0
    basis_weight      float64  (N+U,)  share of the basis loss
    roll              float64  (N+U, 2)  charge per base unit of the term's net delta
    years             float64  (N+U,)  time to expiry, 0 of a perpetual
    group             int32    (U,)    group of each underlying
    price             float64  (U,)    numeraire of a base unit
    offset            float64  (U, 2)  share of a gain that counts, and its cap
    floor             float64  (U, 2)  rates of the delta floor: unhedged, hedged
    delta_shock       float64  (U, 3)  increment, largest share, threshold in base units
    spread            float64  (U, 2)  charge per base unit of delta matched between terms
    weight            float64  (U, C)
    dampener          float64  (U, C)  >= 0
    coin              float64  (U, C)  shocked index
    price_move        int64    (U, C)  number of the price move, 0 for none; read where the model has spreads
    is_skew           bool     (C,)
    probability       float64  (C,)    of a measure that is not the worst
    is_stress         bool     (C,)    of the second set of such a measure
    group_size        int32    (G,)    underlyings of each group
    brackets          float64  (B, 2)  upper end and multiplier of each bracket of the minimum
    tier              int64    (N+U,)  tier of each term
    intra_underlying  int64    (K,)    underlying of each spread between two tiers
    intra_tier        int64    (K, 2)
    intra_delta       float64  (K, 2)  deltas of one spread
    intra_charge      float64  (K,)
    inter_span        int64    (J+1,)  first leg of each spread between underlyings, and the number of legs
    inter_underlying  int64    (L,)    underlying of each leg
    inter_side        bool     (L,)    legs of unlike sides have deltas of unlike signs
    inter_delta       float64  (L,)    deltas of one spread
    inter_rate        float64  (J,)    share of the price risk that is credited
    scaling           float64  (3, 2)  what a unit of each counts: funding, decay, delta shock
    tail              float64  (2,)    1 - alpha of the measure, and the share of the stress set
    scenarios         int64    ()      number of scenarios of the maintenance requirement, S
    initial_first     int64    ()      first column of the initial requirement
    initial_scenarios int64    ()      their number
    mm_factor         float64  ()
    im_factor         float64  ()      with the depeg
    im_multiplier     float64  ()      of the whole initial requirement
    buffer            float64  ()      factor of the measure, >= 1
    round_worst       float64  ()      10 to the decimals of the worst loss; 0 for none
    round_initial     float64  ()      10 to the decimals of the initial requirement; 0 for none
    measure           int64    ()      WORST, VALUE_AT_RISK, EXPECTED_SHORTFALL
    minimum_level     int64    ()      NO_MINIMUM, GROUP_MINIMUM, ACCOUNT_MINIMUM
    larger_of         bool     ()      whether short calls or short puts count, the larger, not both
    annual_spread     bool     ()      whether the charge on matched deltas grows with the time between the terms
    by_term           bool     ()      whether the options of a term are summed before they join the underlying
    is_discounted     bool     ()
    has_basis         bool     ()
    has_offset        bool     ()
    has_dampener      bool     ()
    has_strikes       bool     ()
    has_deltas        bool     ()      whether a charge reads deltas
    has_floor         bool     ()
    has_spreads       bool     ()
    """

    row: np.ndarray
    value: np.ndarray
    basis: np.ndarray
    delta: np.ndarray
    decay: np.ndarray
    funding: np.ndarray
    reach: np.ndarray
    charge: np.ndarray
    perpetual_charge: np.ndarray
    strike_charge: np.ndarray
    order_charge: np.ndarray
    minimum: np.ndarray
    short_minimum: np.ndarray
    kind: np.ndarray
    is_call: np.ndarray
    moves_long: np.ndarray
    underlying: np.ndarray
    term: np.ndarray
    strike: np.ndarray
    order_rule: np.ndarray
    order_scale: np.ndarray
    discount: np.ndarray
    basis_weight: np.ndarray
    roll: np.ndarray
    years: np.ndarray
    group: np.ndarray
    price: np.ndarray
    offset: np.ndarray
    floor: np.ndarray
    delta_shock: np.ndarray
    spread: np.ndarray
    weight: np.ndarray
    dampener: np.ndarray
    coin: np.ndarray
    price_move: np.ndarray
    is_skew: np.ndarray
    probability: np.ndarray
    is_stress: np.ndarray
    group_size: np.ndarray
    brackets: np.ndarray
    tier: np.ndarray
    intra_underlying: np.ndarray
    intra_tier: np.ndarray
    intra_delta: np.ndarray
    intra_charge: np.ndarray
    inter_span: np.ndarray
    inter_underlying: np.ndarray
    inter_side: np.ndarray
    inter_delta: np.ndarray
    inter_rate: np.ndarray
    scaling: np.ndarray
    tail: np.ndarray
    scenarios: int
    initial_first: int
    initial_scenarios: int
    mm_factor: float
    im_factor: float
    im_multiplier: float
    buffer: float
    round_worst: float
    round_initial: float
    measure: int
    minimum_level: int
    larger_of: bool
    annual_spread: bool
    by_term: bool
    is_discounted: bool
    has_basis: bool
    has_offset: bool
    has_dampener: bool
    has_strikes: bool
    has_deltas: bool
    has_floor: bool
    has_spreads: bool


class ScenarioScratch(NamedTuple):
    """Work space of one account at a time: C columns, U underlyings, N terms.

    underlying      float64  (C,)      change of an underlying
    term            float64  (C,)      change of the options of a term
    group           float64  (C,)      change of a group
    lowest          float64  (COLUMNS,)
    delta           float64  (N+U,)    net delta of a term; all 0 between two uses
    run_underlying  int64    (U+1,)    underlyings of the account, in the order of its rows
    run_first       int64    (U+1,)    first row of each that is no spot balance
    run_end         int64    (U+1,)
    result          float64  (U+1, 10)  of each group
    spread          float64  (U+1, 4)  of each underlying
    tier            float64  (tiers,)  net delta of each tier
    """

    underlying: np.ndarray
    term: np.ndarray
    group: np.ndarray
    lowest: np.ndarray
    delta: np.ndarray
    run_underlying: np.ndarray
    run_first: np.ndarray
    run_end: np.ndarray
    result: np.ndarray
    spread: np.ndarray
    tier: np.ndarray


class GroupRequirement(NamedTuple):
    """Requirement of a group of an account, in the numeraire.

    scan is the loss in the scenarios, loss that or the delta floor, by_floor whether the floor is above the scenarios,
    is_scanned whether no minimum is above the requirement.
    """

    maintenance: float
    initial: float
    scan: float
    loss: float
    initial_loss: float
    worst: int
    group: int
    scale: float
    by_floor: bool
    is_scanned: bool


class Requirement(NamedTuple):
    """Requirement of an account, in the numeraire; scale is the sum of all amounts, for the bound of its rounding.

    group is the one with the largest requirement, group_loss its loss, worst the scenario of it: S for the basis
    contingency, -1 for no loss.
    """

    maintenance: float
    initial: float
    loss: float
    initial_loss: float
    group_loss: float
    worst: int
    group: int
    scale: float


class PlainRequirements(NamedTuple):
    """Requirements of A accounts with P positions under a plain model, to be filled; (0,): not asked for.

    maintenance   float64  (A,)        numeraire
    initial       float64  (A,)        numeraire
    loss          float64  (A,)        numeraire, >= 0
    scale         float64  (A,)        sum of all amounts
    group_loss    float64  (A,) | (0,) numeraire, of the group with the largest requirement
    worst         int64    (A,) | (0,) scenario of that group; -1 for no loss
    group         int64    (A,) | (0,) that group; -1 for none
    gradient      float64  (P,) | (0,) what a unit more of each position adds
    contribution  float64  (P,) | (0,) parts of the requirement, by position
    """

    maintenance: np.ndarray
    initial: np.ndarray
    loss: np.ndarray
    scale: np.ndarray
    group_loss: np.ndarray
    worst: np.ndarray
    group: np.ndarray
    gradient: np.ndarray
    contribution: np.ndarray
