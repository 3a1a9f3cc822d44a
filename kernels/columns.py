"""The columns that travel into kernels together."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


class AccountColumns(NamedTuple):
    """State of all accounts, grouped by account; A accounts, P position rows, B balance rows.

    ==================  =======  ======  ==============================================================
    position_offset     uint32   (A+1,)  account a owns position rows position_offset[a]:[a+1]
    market              uint16   (P,)    market row, ascending within an account
    lots                int64    (P,)    signed, in/out
    open_bid, open_ask  int64    (P,)    lots of resting orders that are not reduce-only, in/out
    cost                int64    (P,)    signed settle quanta paid, or worth when last realised, in/out
    entry               int64    (P,)    signed settle quanta paid, in/out
    balance_offset      uint32   (A+1,)  account a owns balance rows balance_offset[a]:[a+1]
    asset               uint16   (B,)    asset row, ascending within an account
    free                int64    (B,)    quanta; negative is borrowed, in/out
    lent                int64    (B,)    quanta >= 0, in/out
    settle_row          uint32   (A,)    balance row of the settle asset
    account_cost        int64    (A,)    sum of the account's costs, in/out
    open_orders         uint32   (A,)    number of open orders, in/out
    unsettled           int64    (A,)    settle quanta, signed
    leverage_fraction   float64  (A,)    1 / leverage limit, 0 without one
    ==================  =======  ======  ==============================================================
    """

    position_offset: npt.NDArray[np.uint32]
    market: npt.NDArray[np.uint16]
    lots: Int
    open_bid: Int
    open_ask: Int
    cost: Int
    entry: Int
    balance_offset: npt.NDArray[np.uint32]
    asset: npt.NDArray[np.uint16]
    free: Int
    lent: Int
    settle_row: npt.NDArray[np.uint32]
    account_cost: Int
    open_orders: npt.NDArray[np.uint32]
    unsettled: Int
    leverage_fraction: Float


class PriceColumns(NamedTuple):
    """Prices of a tick folded with lot, quantum and the margin functions; M markets, K assets, T brackets.

    Amounts are in settle quanta, so that sums of whole numbers stay whole: no cancellation at equity zero. Market m has
    the margin functions 2m (initial) and 2m+1 (maintenance), asset k those at 2(M+k) and 2(M+k)+1; N = 2(M+K).

    =====================  =======  ======  =========================================================
    price_per_lot          float64  (M,)    settle quanta per lot at the mark, > 0 (0: not held, no mark)
    price_per_quantum      float64  (K,)    settle quanta per quantum of the asset
    curve_base             float64  (N,)    fraction of a notional up to the limit
    curve_limit            float64  (N,)    notional up to which the base is the whole rule, +inf: always
    curve_factor           float64  (N,)    sqrt: fraction per square root of a quantum of notional
    bracket_offset         int64    (N+1,)  function c owns brackets bracket_offset[c]:[c+1], none: sqrt
    bracket_from           float64  (T,)    notional from which a bracket counts
    bracket_rate           float64  (T,)    its fraction
    bracket_deduction      float64  (T,)    what makes the requirement continuous
    weight                 float64  (K,)    collateral weight, 0..1
    haircut_base           float64  (K,)    inverseSqrt base, +inf for the identity haircut
    haircut_penalty        float64  (K,)    inverseSqrt positiveCurvePenalty, 0 for the identity haircut
    haircut_size           float64  (K,)    size per quantum: settle units of notional, or the quantum itself
    settle_quantum         float64  ()      settle units per settle quantum
    acmf_divisor           float64  ()      auto-close fraction: max(mmf / divisor, mmf - offset)
    acmf_offset            float64  ()
    =====================  =======  ======  =========================================================
    """

    price_per_lot: Float
    price_per_quantum: Float
    curve_base: Float
    curve_limit: Float
    curve_factor: Float
    bracket_offset: Int
    bracket_from: Float
    bracket_rate: Float
    bracket_deduction: Float
    weight: Float
    haircut_base: Float
    haircut_penalty: Float
    haircut_size: Float
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float


class BookColumns(NamedTuple):
    """The order books of a tick in whole lots and ticks; side 2m is the bids of market m, 2m+1 its asks.

    ===========  =====  ========  ==================================================================
    offset       int64  (2M+1,)   side s owns levels offset[s]:offset[s+1], best first
    price        int64  (L,)      ticks
    lots         int64  (L,)      > 0
    band         int64  (2M,)     worst price of the tick's price band, inclusive, ticks
    cursor       int64  (2M,)     first level with anything left, in/out
    taken        int64  (2M,)     lots already taken from that level, in/out
    ===========  =====  ========  ==================================================================
    """

    offset: Int
    price: Int
    lots: Int
    band: Int
    cursor: Int
    taken: Int


class SliceRules(NamedTuple):
    """What sizes and settles a slice; M markets.

    ====================  =====  ====  ===============================================================
    fraction_num, _den    int64  ()    part of the position in one slice
    fee_num, _den         int64  ()    liquidation fee, part of the value filled
    rounds                int64  ()    slices of a position in one tick at most
    floor_lots            int64  (M,)  lots of the minimum notional of a slice
    min_lots              int64  (M,)  a position may not be left smaller than this
    value_num, _den       int64  (M,)  settle quanta per lot and tick
    ====================  =====  ====  ===============================================================
    """

    fraction_num: int
    fraction_den: int
    fee_num: int
    fee_den: int
    rounds: int
    floor_lots: Int
    min_lots: Int
    value_num: Int
    value_den: Int
