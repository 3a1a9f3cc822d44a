"""Columns that kernels take together, as named tuples of arrays."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

LANES = 8
"""Accounts in a group of `SweepColumns`."""


class AccountColumns(NamedTuple):
    """State of all accounts, the rows of each together; A accounts, P position rows, B balance rows.

    A row that is in no account's span holds nothing: all its amounts are 0.

    Costs and entries are in quanta of the market's settle asset, of an inverse contract negative for a long position.

    ==================  =======  ======  ==================================================================
    position_span       uint32   (A, 2)  first position row of the account, and the end of its rows
    market              uint16   (P,)    market row, ascending within an account
    lots                int64    (P,)    signed, in/out
    open_bid, open_ask  int64    (P,)    lots of open orders that are not reduce-only, in/out
    cost                int64    (P,)    signed quanta paid, or the value when last realised, in/out
    entry               int64    (P,)    signed quanta paid, in/out
    position_balance    uint32   (P,)    balance row of the account in the settle asset of the market
    balance_span        uint32   (A, 2)  first balance row of the account, and the end of its rows
    asset               uint16   (B,)    asset row, ascending within an account
    free                int64    (B,)    quanta; negative is borrowed, in/out
    lent                int64    (B,)    quanta >= 0, in/out
    balance_cost        int64    (B,)    quanta, sum of the costs of the account's positions settled in it, in/out
    unsettled           int64    (B,)    quanta, signed; 0 unless the asset is a money asset, in/out
    settle_row          uint32   (A,)    balance row of the venue's settle asset
    open_orders         uint32   (A,)    number of open orders, in/out
    leverage_fraction   float64  (A,)    1 / leverage limit, 0 without one
    ==================  =======  ======  ==================================================================
    """

    position_span: npt.NDArray[np.uint32]
    market: npt.NDArray[np.uint16]
    lots: Int
    open_bid: Int
    open_ask: Int
    cost: Int
    entry: Int
    position_balance: npt.NDArray[np.uint32]
    balance_span: npt.NDArray[np.uint32]
    asset: npt.NDArray[np.uint16]
    free: Int
    lent: Int
    balance_cost: Int
    unsettled: Int
    settle_row: npt.NDArray[np.uint32]
    open_orders: npt.NDArray[np.uint32]
    leverage_fraction: Float


class OrderColumns(NamedTuple):
    """Orders of all accounts; O orders, of which the row is the number.

    ===========  =====  ====  ================================================
    account      int64  (O,)  account row
    market       int64  (O,)  market row
    side         int64  (O,)  1 of a bid, -1 of an ask
    price        int64  (O,)  limit price, ticks, in/out
    lots         int64  (O,)  0 of one that is not open any more, in/out
    reduce_only  bool   (O,)  whether the order can only reduce a position
    ===========  =====  ====  ================================================
    """

    account: Int
    market: Int
    side: Int
    price: Int
    lots: Int
    reduce_only: npt.NDArray[np.bool_]


class MarginFunctionArrays(NamedTuple):
    """Margin functions folded with a tick's prices: N functions of T segments, all amounts in settle quanta.

    Up to ``flat_notional`` a function requires ``notional * flat_rate``. Above, the last segment that starts below the
    notional requires ``notional * max(rate + slope * notional, root * sqrt(notional)) - deduction``, and the function
    its minimum at least.

    =============  =======  ======  =========================================================================
    flat_notional  float64  (N,)    notional up to which the flat rate is the whole rule, +inf: always
    flat_rate      float64  (N,)    fraction
    minimum        float64  (N,)    least requirement of a notional above the flat one
    offset         int64    (N+1,)  function f owns segments offset[f]:offset[f+1], one at least
    segments       float64  (T, 5)  columns FROM, RATE, SLOPE, ROOT and DEDUCTION; FROM ascends in a function
    =============  =======  ======  =========================================================================
    """

    flat_notional: Float
    flat_rate: Float
    minimum: Float
    offset: Int
    segments: Float


class PriceArrays(NamedTuple):
    """Prices of a tick folded with lot, quantum and the margin functions; M markets, K assets.

    Amounts are in quanta of the venue's settle asset ("settle quanta"), so that sums of whole numbers stay whole: no
    cancellation at equity zero. Market m has the margin functions 2m (initial) and 2m+1 (maintenance), asset k those at
    2(M+k) and 2(M+k)+1.

    =================  ====================  ====  =========================================================
    price_per_lot      float64               (M,)  settle quanta per lot at the mark, > 0 (0: no position, no mark)
    value_per_lot      float64               (M,)  signed quanta of the market's settle asset per lot at the mark
    market_settle      int64                 (M,)  asset row of the market's settle asset
    money              int64                 (S,)  rows of the money assets: the venue's settle asset, others ascending
    price_per_quantum  float64               (K,)  settle quanta per quantum of the asset
    functions          MarginFunctionArrays  ()    see MarginFunctionArrays
    weight             float64               (K,)  collateral weight, 0..1
    haircut_base       float64               (K,)  inverseSqrt base, +inf for the identity haircut
    haircut_penalty    float64               (K,)  inverseSqrt positiveCurvePenalty, 0 for the identity haircut
    haircut_size       float64               (K,)  size per quantum: settle units of notional, or the quantum itself
    settle_quantum     float64               ()    settle units per settle quantum
    acmf_divisor       float64               ()    auto-close fraction: max(mmf / divisor, mmf - offset)
    acmf_offset        float64               ()
    =================  ====================  ====  =========================================================
    """

    price_per_lot: Float
    value_per_lot: Float
    market_settle: Int
    money: Int
    price_per_quantum: Float
    functions: MarginFunctionArrays
    weight: Float
    haircut_base: Float
    haircut_penalty: Float
    haircut_size: Float
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float


class SweepColumns(NamedTuple):
    """Columns of all accounts for a sweep, in G groups of eight with R rows of positions and S rows of balances.

    Slot ``8 g + n`` is lane n of group g: one account, whose rows are lane n of the group's rows. Filling rows of a
    group, and slots without an account, have market row M, asset row K and amount 0.

    The extra rows of an account are its positions in markets that settle in extra money assets, once more: asset by
    asset, and market by market within an asset. The last row of an asset has the asset and its quanta.

    ==================  ============  ======  ====================================================================
    account             uint32        (8G,)   account row of a slot, A if none
    position_group      uint32        (G+1,)  group g owns rows position_group[g]:[g+1]
    market              uint16        (8R,)   market row, ascending within an account; M: none
    lots                int32         (8R,)   signed; of an inverse market with the other sign: short for a long
    balance_group       uint32        (G+1,)  group g owns rows balance_group[g]:[g+1]
    asset               uint8|uint16  (8S,)   asset row, ascending within an account; K: none
    balance             float64       (8S,)   quanta, free and lent; negative: borrowed; with extra rows: that alone
    cash_minus_cost     float64       (8G,)   settle quanta: unsettled less the sum of the costs
    extra_group         uint32        (G+1,)  group g owns rows extra_group[g]:[g+1]
    extra_market        uint16        (8E,)   market row, ascending within an asset; M: none
    extra_lots          int32         (8E,)   as ``lots``
    extra_asset         uint8|uint16  (8E,)   in the last row of an asset: its row, ascending; K: not the last, or none
    extra_quanta        float64       (8E,)   in the last row of an asset: free >= 0, lent and unsettled, less costs
    has_orders          uint8         (G,)    bit n: the account has open orders
    has_leverage_limit  uint8         (G,)    bit n: the account has a leverage limit
    overflow            uint8         (G,)    bit n: the account does not fit these columns, its amounts are 0
    ==================  ============  ======  ====================================================================
    """

    account: npt.NDArray[np.uint32]
    position_group: npt.NDArray[np.uint32]
    market: npt.NDArray[np.uint16]
    lots: npt.NDArray[np.int32]
    balance_group: npt.NDArray[np.uint32]
    asset: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    balance: Float
    cash_minus_cost: Float
    extra_group: npt.NDArray[np.uint32]
    extra_market: npt.NDArray[np.uint16]
    extra_lots: npt.NDArray[np.int32]
    extra_asset: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    extra_quanta: Float
    has_orders: npt.NDArray[np.uint8]
    has_leverage_limit: npt.NDArray[np.uint8]
    overflow: npt.NDArray[np.uint8]


class RequirementLookup(NamedTuple):
    """Margin functions as eight accounts look them up where a notional is above a flat one; row R is of nothing, all 0.

    The initial function comes before the maintenance function. Only a first segment has a slope or a root.

    ==========  =======  ===========  ========================================================================
    roots       float64  (R+1, 4)     both roots, and both notionals up to which the flat rate is the whole rule
    growth      float64  (R+1, 4)     both slopes, both minimums
    grows       int64    ()           1: a slope or a minimum is not 0
    tiers       float64  (T, R+1, 4)  both FROM and both RATE of each later segment; from +inf: none
    deductions  float64  (T, R+1, 4)  both deductions, 0, 0
    ==========  =======  ===========  ========================================================================
    """

    roots: Float
    growth: Float
    grows: int
    tiers: Float
    deductions: Float


class SweepLookup(NamedTuple):
    """Figures of `PriceArrays` that a sweep looks up together, row by row.

    The last row is of nothing: 0, and a whole weight for any quanta. Up to the limit of a market, or of a borrow, a
    flat rate is the whole of both margin functions. ``extra`` is None if no market settles in an extra money asset; the
    price per lot of one that does is negative: its value is no part of the sum in the settle asset.

    ==============  =================  ========  ================================================================
    market          float64            (M+1, 4)  price per lot, limit, initial rate, maintenance rate
    market_above    RequirementLookup  ()        of markets, above the limit
    extra           float64|None       (M+1, 4)  unsigned value of a lot, quanta of the market's settle asset; 0, 0, 0
    asset           float64            (K+1, 4)  price per quantum, weight, quanta up to which it is whole, limit
    weight          float64            (K+1, 4)  haircut base, haircut penalty, size per quantum, 0
    borrow          float64            (K+1, 4)  initial rate, maintenance rate, 0, 0
    borrow_above    RequirementLookup  ()        of borrows, above the limit
    settle_quantum  float64            ()        settle units per settle quantum
    acmf_divisor    float64            ()        auto-close fraction: max(mmf / divisor, mmf - offset)
    acmf_offset     float64            ()
    ==============  =================  ========  ================================================================
    """

    market: Float
    market_above: RequirementLookup
    extra: Float | None
    asset: Float
    weight: Float
    borrow: Float
    borrow_above: RequirementLookup
    settle_quantum: float
    acmf_divisor: float
    acmf_offset: float


class BoundLookup(NamedTuple):
    """Worst figures of intervals of prices, laid out as `SweepLookup`.

    The lowest price per lot of a market that settles in an extra money asset is negative instead.

    ============  =================  ========  ======================================================================
    market        float64            (M+1, 4)  lowest, highest price per lot; limit and maintenance rate at the highest
    market_above  RequirementLookup  ()        of markets, above the limit, at the highest
    extra         float64|None       (M+1, 4)  lowest, highest value of a lot, as of `SweepLookup`; 0, 0
    asset         float64            (K+1, 4)  lowest, highest price per quantum; weight, quanta with the whole weight
    weight        float64            (K+1, 4)  haircut base, haircut penalty, size per quantum at the lowest, 0
    borrow        float64            (K+1, 4)  limit and maintenance rate at the highest, 0, 0
    borrow_above  RequirementLookup  ()        of borrows, above the limit, at the highest
    acmf_divisor  float64            ()        as of `SweepLookup`
    acmf_offset   float64            ()
    ============  =================  ========  ======================================================================
    """

    market: Float
    market_above: RequirementLookup
    extra: Float | None
    asset: Float
    weight: Float
    borrow: Float
    borrow_above: RequirementLookup
    acmf_divisor: float
    acmf_offset: float


class BookColumns(NamedTuple):
    """The order books of a tick in whole lots and ticks; side 2b is the bids of book b, 2b+1 its asks; S = 2B sides.

    =============  =====  ======  =============================================================
    offset         int64  (S+1,)  side s owns levels offset[s]:offset[s+1], best first
    price          int64  (L,)    ticks
    lots           int64  (L,)    > 0; the value of a side at its worst price is below 2**62
    band           int64  (S,)    worst price that a taker may pay or receive, inclusive, ticks
    band_reason    int64  (S,)    reason of that band
    worst_average  int64  (S,)    worst average price of a slice, ticks
    inside         int64  (S,)    lots that remain inside the band, in/out
    cursor         int64  (S,)    first level with lots that remain, in/out
    taken          int64  (S,)    lots already filled of that level, in/out
    =============  =====  ======  =============================================================
    """

    offset: Int
    price: Int
    lots: Int
    band: Int
    band_reason: Int
    worst_average: Int
    inside: Int
    cursor: Int
    taken: Int


class SliceRules(NamedTuple):
    """Rules by which a slice is sized and settled; M markets.

    ==================  =======  ====  ===================================================================
    fraction_num, _den  int64    ()    part of the position in one slice
    fee_num, _den       int64    ()    liquidation fee, part of the value filled
    share_num, _den     int64    ()    part of the lots inside the band that one slice may take
    target              float64  ()    MMR that a slice restores
    on_harm             int64    ()    WAIVE | SEND | BACKSTOP: treatment of a slice that does not help
    waived_share        float64  ()    fee of a waived slice, part of the cost up to which it does no harm
    position_order      int64    ()    RELIEF | LARGEST | PRO_RATA
    floor_lots          int64    (M,)  lots of the minimum notional of a slice
    min_lots            int64    (M,)  a position may not be left smaller than this
    value_num, _den     int64    (M,)  settle quanta per lot and tick
    value_unit          float64  (M,)  the same
    lot_quanta          int64    (M,)  settle quanta of a lot at the mark, rounded up, for the caps
    market_room         int64    (M,)  lots that slices may still fill in the tick, in/out
    ==================  =======  ====  ===================================================================
    """

    fraction_num: int
    fraction_den: int
    fee_num: int
    fee_den: int
    share_num: int
    share_den: int
    target: float
    on_harm: int
    waived_share: float
    position_order: int
    floor_lots: Int
    min_lots: Int
    value_num: Int
    value_den: Int
    value_unit: Float
    lot_quanta: Int
    market_room: Int


class SliceQueue(NamedTuple):
    """Accounts that act in a round, in the order of treatment; N accounts with H position rows.

    ===========  =======  ======  ===============================================================================
    account      int64    (N,)    rows of the accounts
    start        int64    (N+1,)  account n owns start[n]:start[n+1] of the columns of size H
    status       uint8    (N,)    status of the account, or ESCALATED, in/out
    room         int64    (N,)    settle quanta that its cap leaves, in/out
    equity       float64  (N,)    its net equity, settle quanta, out
    maintenance  float64  (N,)    its maintenance margin, settle quanta, out
    ratio        float64  (N,)    its MMR, out
    throttled    uint8    (H,)    reason by market: THROTTLE, COOLDOWN, 0: none
    order        int64    (H,)    position rows in the order of treatment, out
    surplus      float64  (H,)    settle quanta that a slice of each restores with PRO_RATA, out
    score        float32  (H,)    sort key of the order, descending; float32 so that equal scores stay equal, out
    ===========  =======  ======  ===============================================================================
    """

    account: Int
    start: Int
    status: npt.NDArray[np.uint8]
    room: Int
    equity: Float
    maintenance: Float
    ratio: Float
    throttled: npt.NDArray[np.uint8]
    order: Int
    surplus: Float
    score: npt.NDArray[np.float32]


class SliceRows(NamedTuple):
    """Rows that a round writes; R is at least twice the positions.

    =========  =======  ====  =============================================================
    written    int64    (1,)  rows so far, in/out
    account    int64    (R,)  out
    market     int64    (R,)  out
    event      int64    (R,)  SKIP | EXPIRE | HARM | BOOK, out
    reason     int64    (R,)  index of ROW_REASONS, out
    requested  int64    (R,)  lots, out
    lots       int64    (R,)  signed change of the position, out
    flow       int64    (R,)  settle quanta to the account; of HARM those of its quote, out
    cost       int64    (R,)  change of cost, settle quanta, out
    entry      int64    (R,)  change of entry, settle quanta, out
    fee        int64    (R,)  settle quanta, out
    fee_num    int64    (R,)  rate at which the fee was computed, out
    fee_den    int64    (R,)  its denominator, out
    before     float64  (R,)  MMR before, out
    after      float64  (R,)  MMR after, out
    =========  =======  ====  =============================================================
    """

    written: Int
    account: Int
    market: Int
    event: Int
    reason: Int
    requested: Int
    lots: Int
    flow: Int
    cost: Int
    entry: Int
    fee: Int
    fee_num: Int
    fee_den: Int
    before: Float
    after: Float


class JournalColumns(NamedTuple):
    """Rows of a journal; N rows. A row number of -1 stands for none.

    =============  =======  ======  =======================================================================
    event, reason  uint8    (N,)    codes
    account        int64    (N,)    account row, -1: none
    counterparty   int64    (N,)    account row, or BOOK | FUND | SHORTFALL | NOBODY | POOL of journal.py
    market         int64    (N,)    market row, -1: none
    asset          int64    (N,)    asset row of quanta and lent, -1: none
    settle         int64    (N,)    asset row of the settle quanta, -1: there are none
    lots           int64    (N,)    change of the account's position; the counterparty's is the opposite
    cost, entry    int64    (N,)    change of the position's, settle quanta
    cash           int64    (N,)    change of the account's free settle balance, settle quanta
    fee            int64    (N,)    settle quanta from the account to the fund
    quanta, lent   int64    (N,)    change of the account's free and lent balance of the asset
    unsettled      int64    (N,)    change of the account's unsettled settle quanta
    counter_cost   int64    (N,)    change of the counterparty's cost, settle quanta
    counter_cash   int64    (N,)    change of the counterparty's settle balance, settle quanta
    counter_entry  int64    (N,)    change of the counterparty's entry, settle quanta
    fund           int64    (N,)    change of the fund, the fee not counted, settle quanta
    price          float64  (N,)    settle units, NaN: none
    mmr_before     float64  (N,)    ratio, NaN: none
    mmr_after      float64  (N,)    ratio, NaN: none
    =============  =======  ======  =======================================================================
    """

    event: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    account: Int
    counterparty: Int
    market: Int
    asset: Int
    settle: Int
    lots: Int
    cost: Int
    cash: Int
    entry: Int
    fee: Int
    quanta: Int
    lent: Int
    unsettled: Int
    counter_cost: Int
    counter_cash: Int
    counter_entry: Int
    fund: Int
    price: Float
    mmr_before: Float
    mmr_after: Float


class LedgerArrays(NamedTuple):
    """Lots and money of those who are no accounts; M markets, K assets.

    ===========  =====  ====  ===================================
    book_lots    int64  (M,)  lots of the makers, in/out
    book_quanta  int64  (K,)  money of the makers, in/out
    pool         int64  (K,)  what the pools received, in/out
    fund         int64  (K,)  quanta of the fund, in/out
    shortfall    int64  (K,)  quanta that bankrupt accounts owe, in/out
    ===========  =====  ====  ===================================
    """

    book_lots: Int
    book_quanta: Int
    pool: Int
    fund: Int
    shortfall: Int


class UnitColumns(NamedTuple):
    """Units of a small account's venue, exact and in float64, and what folding a price needs; M markets, K assets.

    ==================  =======  ======  ====================================================================
    lot_num, lot_den    int64    (M,)    quanta of the settle asset of a lot at a price of 1, in lowest terms
    lot_value           float64  (M,)    the same
    inverse             bool     (M,)    the value of a lot is divided by the price
    tick_size           float64  (M,)    units of the quote
    step_size           float64  (M,)    quantity of a lot
    max_price           float64  (M,)    highest mark
    base_asset          int64    (M,)    asset row, -1: none
    quote_asset         int64    (M,)    asset row
    quantum_num, _den   int64    (K,)    units of the asset of a quantum, in lowest terms
    quantum_size        float64  (K,)    the same
    quantum_value       float64  (K,)    settle quanta of a quantum at a price of 1
    haircut_by_price    int64    ()      1: the size of a haircut is the notional; 0: the quantity
    by_quantity         bool     (N,)    the function's size is the token quantity
    slope, root         float64  (T,)    of the segments of the functions, before folding
    open_interest       float64  (N, 3)  base, lower and upper of a function by open interest, NaN: another kind
    ==================  =======  ======  ====================================================================
    """

    lot_num: Int
    lot_den: Int
    lot_value: Float
    inverse: npt.NDArray[np.bool_]
    tick_size: Float
    step_size: Float
    max_price: Float
    base_asset: Int
    quote_asset: Int
    quantum_num: Int
    quantum_den: Int
    quantum_size: Float
    quantum_value: Float
    haircut_by_price: int
    by_quantity: npt.NDArray[np.bool_]
    slope: Float
    root: Float
    open_interest: Float


class SmallAccount(NamedTuple):
    """One account in arrays that an njit loop of the user changes; M markets and K assets of its venue.

    The account is row 0 of ``state``. Made by `riskcore.scalar.small_account`, changed by the functions of that module.

    ==============  ==============  ====  =============================================================================
    state           AccountColumns  ()    its positions and balances
    prices          PriceArrays     ()    the present prices, folded, in/out
    units           UnitColumns     ()    of the venue
    row             int64           (M,)  position row of a market, -1: the account has none
    mark            float64         (M,)  present mark, units of the quote, NaN: none
    index_price     float64         (M,)  present index, NaN: none
    asset           float64         (K,)  present price of an asset, settle units, NaN: none
    own_asset       float64         (K,)  its price where it has one of its own, NaN: it follows a market
    interest        float64         (M,)  open interest, a quantity; NaN: the lots of the account
    realized        int64           (M,)  profit realised against the entry price without fees, quanta, in/out
    fees            int64           (M,)  fees paid, quanta, in/out
    funding         int64           (M,)  funding received, quanta, in/out
    doubts          int64           (1,)  amounts rounded in float64 that may be off by a quantum, in/out
    ==============  ==============  ====  =============================================================================
    """

    state: AccountColumns
    prices: PriceArrays
    units: UnitColumns
    row: Int
    mark: Float
    index_price: Float
    asset: Float
    own_asset: Float
    interest: Float
    realized: Int
    fees: Int
    funding: Int
    doubts: Int


class SmallBooks(NamedTuple):
    """The order books that the slices of a small account fill, and the venue's policy; M markets, S = 2 M sides.

    The levels of a side end at the end of its rows: ``cursor`` is the first.

    ==================  ===========  ====  =====================================================================
    rules               SliceRules   ()    of the policy; floor_lots, lot_quanta and market_room, in/out
    book                BookColumns  ()    levels and bands, in/out
    queue               SliceQueue   ()    of the account alone, in/out
    rows                SliceRows    ()    of the last round, in/out
    given               int64        (S,)  levels that the side got, in/out
    impact_num, _den    int64        (S,)  multiplier of the touch that bounds a price, 0: none
    limit_num, _den     int64        (S,)  multiplier of the middle of the touch, 0: none
    slippage_num, _den  int64        (2,)  multiplier of the touch that bounds an average, bids and asks, 0: none
    least_slice         float64      ()    settle quanta of the smallest slice
    market_cap          int64        ()    settle quanta, 2**62: none
    account_cap         int64        ()    settle quanta, 2**62: none
    rounds              int64        ()    rounds of slices in a tick, 0: the policy has no stage `book`
    keeps_shortfall     int64        ()    1: a shortfall stays unsettled with the account
    ==================  ===========  ====  =====================================================================
    """

    rules: SliceRules
    book: BookColumns
    queue: SliceQueue
    rows: SliceRows
    given: Int
    impact_num: Int
    impact_den: Int
    limit_num: Int
    limit_den: Int
    slippage_num: Int
    slippage_den: Int
    least_slice: float
    market_cap: int
    account_cap: int
    rounds: int
    keeps_shortfall: int
