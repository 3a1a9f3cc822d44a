"""The path of prices between two ticks, and the guards of the instants on it; docs/one_tick.md has the rules."""

from math import isnan, nan, sqrt
from typing import NamedTuple

import numpy as np

from ._jit import inner_kernel, kernel
from .guards import (
    INDEX,
    INDEX_CAPPED,
    INDEX_UPDATE,
    MARK,
    MARK_CAPPED,
    MARK_CLAMPED,
    MARK_UPDATE,
    MAX_PREMIUM,
    MAX_TICKS,
    REFUSED,
    UPDATED,
    cap_update,
    clamp_price,
    follow_markets,
    sample_of,
)
from .margin_function import margin_requirement

HOLD, LINEAR, BRIDGE, ADVERSE = range(4)
"""Kinds of paths."""
ASSET_UPDATE, ASSET_CLAMPED, ASSET_BY_MEAN, ASSET_CAPPED, ASSET_HELD = 1, 2, 4, 8, 16
"""What happened to the price of an asset at an instant."""
MIN_UPDATE, MAX_UPDATE, INDEX_THRESHOLD, MEAN_THRESHOLD = range(4)
"""Rows of the guards of assets."""
FITS, TOO_HIGH, TOO_LOW, NO_MARK_SAMPLE, NO_PREMIUM_SAMPLE = range(5)
"""Rules that a price of an instant can break."""

_SECOND = 1_000_000_000
_WINDOW = 300  # seconds
_STEP, _ONE, _TWO = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_WORD = np.uint64(0xFFFF)
_HALF = np.uint64(2**63)


@inner_kernel
def draw_of(key, market, number):
    """Draw of a market with its number, SplitMix64.

    key     uint64  ()  of the tick
    market  int64   ()  row of the market
    number  int64   ()  from 0
    """
    z = key + (np.uint64(market) * np.uint64(2**32) + np.uint64(number + 1)) * _STEP
    z = (z ^ (z >> np.uint64(30))) * _ONE
    z = (z ^ (z >> np.uint64(27))) * _TWO
    return z ^ (z >> np.uint64(31))


@inner_kernel
def normal_step(key, market, number):
    """Step of a random walk: a sum of four uniform draws, of mean 0 and variance 1.

    key     uint64  ()  of the tick
    market  int64   ()  row of the market
    number  int64   ()  of the instant, from 1
    """
    word = draw_of(key, market, number)
    total = np.int64(
        (word & _WORD) + ((word >> np.uint64(16)) & _WORD) + ((word >> np.uint64(32)) & _WORD) + (word >> np.uint64(48))
    )
    return (total - 131070) / 65536.0 * 1.7320508075688772


@inner_kernel
def round_price(value, tick_size, numerator, denominator):
    """Price rounded to the thousandth of a tick.

    value        float64  ()  settle units
    tick_size    float64  ()  nearest float64
    numerator    float64  ()  of the tick size
    denominator  float64  ()  of the tick size
    """
    return np.rint(value / tick_size * 1000.0) * numerator / (denominator * 1000.0)


@kernel
def fill_path(
    kind, key, before, time, first, start_mark, end_mark, lowest, highest, low_first, start_index, end_index, tick,
    mark, index,
):  # fmt: skip
    """Marks and indexes on the path between two ticks, not guarded; R + 1 of the instants 0 (the tick before) to N.

    kind         int64    ()          HOLD, LINEAR, BRIDGE or ADVERSE
    key          uint64   ()          of the tick's draws
    before       int64    ()          time of the tick before, nanoseconds
    time         int64    (N + 1,)    of the instants and of the tick, nanoseconds
    first        int64    ()          number of the first instant wanted
    start_mark   float64  (M,)        mark used last before, NaN: none
    end_mark     float64  (M,)        mark given at the tick, NaN: none
    lowest       float64  (M,)        low since the tick before, NaN: none
    highest      float64  (M,)        high since the tick before, NaN: none
    low_first    bool     (M,)        the low comes before the high; of ADVERSE alone
    start_index  float64  (M,)        index used at the tick before, NaN: none
    end_index    float64  (M,)        index given at the tick, NaN: none
    tick         float64  (3, M)      tick size: nearest float64, numerator, denominator
    mark         float64  (R + 1, M)  out, NaN: none
    index        float64  (R + 1, M)  out, NaN: none
    """
    count, last = time.size, first + mark.shape[0] - 1  # the tick is instant ``count``
    span = time[count - 1] - before
    for m in range(mark.shape[1]):
        p0, i0, i1 = start_mark[m], start_index[m], end_index[m]
        if isnan(p0):
            mark[:, m] = nan
            index[:, m] = nan
            continue
        is_held = kind == HOLD or isnan(end_mark[m])
        p1 = p0 if isnan(end_mark[m]) else end_mark[m]
        has_index = not isnan(i0) and (is_held or not isnan(i1))
        low, high = min(p0, p1), max(p0, p1)
        has_bar = not isnan(lowest[m]) and count > 1
        one = other = nan
        if has_bar:
            low, high = min(low, lowest[m]), max(high, highest[m])
            low_comes = low_first[m] if kind == ADVERSE else draw_of(key, m, 0) < _HALF
            one, other = (lowest[m], highest[m]) if low_comes else (highest[m], lowest[m])
        scale = (high - low) * (0.6266570686577501 / sqrt(count))
        segments = 1
        if has_bar:
            segments = 2 if count == 2 else 3
        for segment in range(segments):
            begin, start = 0, p0
            if segment == 1:
                begin, start = (1 if count == 2 else count // 3), one
            elif segment == 2:
                begin, start = 2 * count // 3, other
            end, stop = count, p1
            if segment < segments - 1:
                if segment == 0:
                    end, stop = (1 if count == 2 else count // 3), one
                else:
                    end, stop = 2 * count // 3, other
            if end <= first or begin > last:
                continue
            walk, whole = 0.0, 0.0
            if kind == BRIDGE and not is_held:
                for k in range(begin + 1, end + 1):
                    whole += normal_step(key, m, k)
            since = before if begin == 0 else time[begin - 1]
            for k in range(begin, min(end, last + 1)):
                now = before if k == 0 else time[k - 1]
                value = start
                if k > begin and not is_held:
                    part = (now - since) / (time[end - 1] - since)
                    value = start + (stop - start) * part
                    if kind == BRIDGE:
                        walk += normal_step(key, m, k)
                        value += scale * (walk - whole * part)
                    value = min(max(round_price(value, tick[0, m], tick[1, m], tick[2, m]), low), high)
                if k < first:
                    continue
                mark[k - first, m] = value
                price = nan
                if has_index and is_held:
                    price = i0 if value == p0 else value * (i0 / p0)
                elif has_index and k == 0:
                    price = i0
                elif has_index:
                    ratio = i0 / p0 + (i1 / p1 - i0 / p0) * ((now - before) / span)
                    price = round_price(value * ratio, tick[0, m], tick[1, m], tick[2, m])
                index[k - first, m] = price


if not hasattr(fill_path, "py_func"):  # interpreted, NumPy would warn of draws that wrap
    fill_path = np.errstate(over="ignore")(fill_path)


@kernel
def guard_path(time, clamp, update_cap, bounds, tick_size, price, stamp, sample, mark, index, happened, events, error):
    """Guard the marks and indexes of a path, market by market; a price that does not change is no update.

    time        int64    (R,)        of the instants, nanoseconds
    clamp       float64  ()          width of the clamp to the index, part of the index
    update_cap  float64  (2, M)      least and largest factor of a second, NaN: none
    bounds      float64  (2, M)      lowest and highest mark
    tick_size   float64  (M,)        price of a tick
    price       float64  (3, M)      in/out, MARK and INDEX remembered before and then at the end, NaN: none yet
    stamp       int64    (3, M)      in/out, time of each, nanoseconds
    sample      int64    (2, M)      in/out, thousandths of a tick, and premium in units of 1e-12, or NO_SAMPLE
    mark        float64  (R + 1, M)  in/out, path from the instant before on; then, from row 1 on, the marks that count
    index       float64  (R + 1, M)  in/out, the same of the indexes
    happened    uint8    (R, M)      out, MARK_UPDATE and so on
    events      uint8    (R,)        out, UPDATED and REFUSED of each instant
    error       int64    (3,)        out, first price that breaks a rule: row, market and rule (FITS: none)
    """
    error[2] = FITS
    for r in range(time.size):
        events[r] = 0
    for m in range(mark.shape[1]):
        least, largest = update_cap[0, m], update_cap[1, m]
        used, used_time = price[MARK, m], stamp[MARK, m]
        reference, reference_time = price[INDEX, m], stamp[INDEX, m]
        path_mark, path_index = mark[0, m], index[0, m]
        sampled_mark = sampled_index = nan
        for r in range(time.size):
            now, flags, index_counts = time[r], 0, True
            new_mark, new_index = mark[r + 1, m], index[r + 1, m]
            if new_index != path_index and not isnan(new_index):
                reference = cap_update(new_index, reference, now - reference_time, least, largest)
                reference_time, index_counts = now, reference == new_index
                flags |= INDEX_UPDATE
                if not index_counts:
                    flags |= INDEX_CAPPED
            now_index = nan if isnan(new_index) else reference
            if new_mark != path_mark and not isnan(new_mark):
                clamped = new_mark
                if index_counts:
                    clamped = clamp_price(new_mark, now_index * (1.0 - clamp), now_index * (1.0 + clamp))
                capped = cap_update(clamped, used, now - used_time, least, largest)
                flags |= MARK_UPDATE
                if clamped != new_mark:
                    flags |= MARK_CLAMPED
                if capped != clamped:
                    flags |= MARK_CAPPED
                used, used_time = capped, now
            now_mark = nan if isnan(new_mark) else used
            path_mark, path_index = new_mark, new_index
            mark[r + 1, m], index[r + 1, m], happened[r, m] = now_mark, now_index, flags
            if flags:
                events[r] |= UPDATED | (REFUSED if flags & (INDEX_CAPPED | MARK_CLAMPED | MARK_CAPPED) else 0)
            if error[2] == FITS and not isnan(now_mark):
                ticks = now_mark / tick_size[m]
                rule = FITS
                if now_mark > bounds[1, m]:
                    rule = TOO_HIGH
                elif now_mark < bounds[0, m]:
                    rule = TOO_LOW
                elif not 0.0 < ticks < MAX_TICKS:
                    rule = NO_MARK_SAMPLE
                elif not isnan(now_index) and (now_mark - now_index) / now_index >= MAX_PREMIUM:
                    rule = NO_PREMIUM_SAMPLE
                if rule != FITS:
                    error[0], error[1], error[2] = r, m, rule
            if not isnan(now_mark):
                sampled_mark, sampled_index = now_mark, now_index
        price[MARK, m], stamp[MARK, m], price[INDEX, m], stamp[INDEX, m] = used, used_time, reference, reference_time
        if error[2] == FITS and not isnan(sampled_mark):
            sample[0, m], sample[1, m] = sample_of(sampled_mark, sampled_index, tick_size[m])


@kernel
def next_event(events, first, flag):
    """Number of the first instant from one on at which something happened; that after the last if there is none.

    events  uint8  (R,)  UPDATED and REFUSED of each instant
    first   int64  ()    number of an instant
    flag    int64  ()    UPDATED or REFUSED
    """
    for r in range(first, events.size):
        if events[r] & flag:
            return r
    return events.size


@kernel
def most_valuable(mark, inverse, asset, best_mark, best_asset):
    """Prices at which lots of each market and quanta of each asset are worth most.

    mark        float64  (R, M)  of the instants, NaN: none
    inverse     bool     (M,)    the contract of the market is inverse
    asset       float64  (R, K)  of the instants, NaN: none
    best_mark   float64  (M,)    out, highest mark, or lowest of an inverse contract, NaN: none
    best_asset  float64  (K,)    out, highest price, NaN: none
    """
    for m in range(mark.shape[1]):
        best = nan
        for r in range(mark.shape[0]):
            price = mark[r, m]
            if isnan(best) or (price < best if inverse[m] else price > best):
                best = price
        best_mark[m] = best
    for k in range(asset.shape[1]):
        best = nan
        for r in range(asset.shape[0]):
            if isnan(best) or asset[r, k] > best:
                best = asset[r, k]
        best_asset[k] = best


@kernel
def sample_runs(
    end, before, time, tick_size, mark, index, own, sample, price, second, seconds, market_sample, asset_sample,
):  # fmt: skip
    """Samples of the instants of T ticks, each for the seconds up to the next one, and of the seconds before a tick's.

    end            int64    (T,)           number of the instants of the ticks up to each
    before         int64    (T,)           time from which on the samples before a tick hold, nanoseconds
    time           int64    (R,)           of the instants, nanoseconds
    tick_size      float64  (M,)           price of a tick
    mark           float64  (R, M)         that counts, NaN: none
    index          float64  (R, M)         that counts, NaN: none
    own            float64  (R, K)         own prices of assets that count, NaN: none
    sample         int64    (T, 2, M)      samples before each tick, or NO_SAMPLE
    price          float64  (T, K)         own prices of assets used last before each tick, NaN: never
    second         int64    (R + T,)       out, first second of each run
    seconds        int64    (R + T,)       out, number of its seconds, perhaps 0
    market_sample  int64    (R + T, 2, M)  out, thousandths of a tick, and premium in units of 1e-12, or NO_SAMPLE
    asset_sample   float64  (R + T, K)     out, settle units, NaN: none
    """
    n = r = 0
    for t in range(end.size):
        second[n] = before[t] // _SECOND + 1
        for m in range(tick_size.size):
            market_sample[n, 0, m], market_sample[n, 1, m] = sample[t, 0, m], sample[t, 1, m]
        for k in range(price.shape[1]):
            asset_sample[n, k] = price[t, k]
        while r < end[t]:
            n += 1
            second[n] = -(-time[r] // _SECOND)
            seconds[n - 1] = max(second[n] - second[n - 1], 0)
            for m in range(tick_size.size):
                if isnan(mark[r, m]):
                    found = market_sample[n - 1, 0, m], market_sample[n - 1, 1, m]
                else:
                    found = sample_of(mark[r, m], index[r, m], tick_size[m])
                market_sample[n, 0, m], market_sample[n, 1, m] = found
            for k in range(price.shape[1]):
                asset_sample[n, k] = asset_sample[n - 1, k] if isnan(own[r, k]) else own[r, k]
            r += 1
        seconds[n] = 1 if time[r - 1] % _SECOND == 0 else 0
        n += 1


@inner_kernel
def price_between(start, stop, begin, end, time):
    """Own price of an asset on its path.

    start  float64  ()  at the tick before
    stop   float64  ()  at the tick, NaN: the price stays
    begin  int64    ()  time of the tick before, nanoseconds
    end    int64    ()  time of the tick, nanoseconds
    time   int64    ()  of the instant, nanoseconds
    """
    return start if isnan(stop) else start + (stop - start) * ((time - begin) / (end - begin))


@inner_kernel
def mean_price(asset, row, time, before, price, samples, own):
    """Mean of an asset's samples of the 300 seconds before an instant, NaN without a sample.

    asset    int64         ()      row of the asset
    row      int64         ()      of the instant
    time     int64         (R,)    of the instants, nanoseconds
    before   int64         ()      time of the instant before them, nanoseconds
    price    float64       ()      used last then, NaN: never
    samples  AssetSamples  ()      up to then
    own      float64       (R, K)  prices of the instants before the row, NaN: none
    """
    oldest, newest = time[row] // _SECOND - _WINDOW + 1, -(-time[row] // _SECOND) - 1
    total, count, run_price, run = 0.0, 0, nan, 0
    past = samples.second.size
    for n in range(past + 1 + row):
        if n < past:
            value, begin = samples.price[n, asset], samples.second[n]
            end = begin + samples.seconds[n] - 1
        else:
            j = n - past  # the seconds before the instant j
            if j > 0 and not isnan(own[j - 1, asset]):
                price = own[j - 1, asset]
            value, end = price, -(-time[j] // _SECOND) - 1
            begin = before // _SECOND + 1 if j == 0 else -(-time[j - 1] // _SECOND)
        seconds = min(end, newest) - max(begin, oldest) + 1
        if seconds <= 0 or isnan(value):
            continue
        if value != run_price:
            if run:
                total += run_price * run
            run_price, run = value, 0
        run += seconds
        count += seconds
    if not run:
        return nan
    return (total + run_price * run) / count


class AssetSamples(NamedTuple):
    """Samples of assets, in runs of seconds, oldest first.

    =======  =======  ======  =========================================
    second   int64    (S,)    first second of each run since the epoch
    seconds  int64    (S,)    number of its seconds
    price    float64  (S, K)  settle units, NaN: none
    =======  =======  ======  =========================================
    """

    second: np.ndarray
    seconds: np.ndarray
    price: np.ndarray


class AssetRules(NamedTuple):
    """Guards of the prices of assets, and the markets that tell these prices.

    ===========  =======  ======  ==================================================================================
    guards       float64  (4, K)  MIN_UPDATE and MAX_UPDATE (factors of a second), INDEX_THRESHOLD, MEAN_THRESHOLD
                                  (parts); NaN: none
    stale_after  int64    (K,)    nanoseconds for which a price is held, -1: not at all
    base_asset   int64    (M,)    asset row of each market, -1: none
    quote_asset  int64    (M,)    asset row of each market
    settle       int64    ()      row of the settle asset, whose price is 1
    ===========  =======  ======  ==================================================================================
    """

    guards: np.ndarray
    stale_after: np.ndarray
    base_asset: np.ndarray
    quote_asset: np.ndarray
    settle: int


@kernel
def guard_assets(
    rules, is_held, begin, end, given, is_tick, time, before, index, happened_market, mark, price, last, stamp,
    samples, events, own, asset, happened, rejected,
):  # fmt: skip
    """Guard the prices of assets at instants in order, and complete them; the last instant may be a tick.

    rules            AssetRules    ()          see above
    is_held          bool          ()          the path holds the prices of the tick before
    begin            int64         ()          time of the tick before, nanoseconds
    end              int64         ()          time of the tick, nanoseconds
    given            float64       (2, K)      own price counted at the tick before, and given at the tick; NaN: none
    is_tick          bool          ()          the last instant is the tick
    time             int64         (R,)        of the instants, nanoseconds
    before           int64         ()          time of the instant before them, nanoseconds
    index            float64       (R, M)      that counts, NaN: none
    happened_market  uint8         (R, M)      INDEX_CAPPED and so on
    mark             float64       (R, M)      that counts, NaN: none
    price            float64       (K,)        used last before, NaN: never
    last             float64       (K,)        in/out, used last before, and then at the end
    stamp            int64         (K,)        in/out, time of its update, nanoseconds
    samples          AssetSamples  ()          up to then, where a guard needs them
    events           uint8         (R,)        in/out, UPDATED and REFUSED of each instant
    own              float64       (R, K)      out, own prices that count, NaN: none
    asset            float64       (R, K)      out, these, and prices that follow from the markets for the others
    happened         uint8         (R, K)      out, ASSET_UPDATE and so on
    rejected         float64       (R, K, 3)   out, price before the clamp to the index, before that to the mean, and
                                               before the cap; one row of all instants where no asset has a guard
    """
    keeps = rejected.shape[0] == time.size
    for k in range(own.shape[1]):
        own[:, k] = nan
    for r in range(time.size):
        now, at_tick = time[r], is_tick and r == time.size - 1
        for k in range(own.shape[1]):
            flags, update = 0, nan
            earlier, moment = last[k], stamp[k]
            if at_tick:
                update = given[1, k]
                if isnan(update):
                    if not isnan(earlier) and now - moment <= rules.stale_after[k]:
                        own[r, k], flags = earlier, ASSET_HELD
                        events[r] |= REFUSED
                    happened[r, k] = flags
                    continue
            else:
                start = given[0, k]
                if isnan(start):
                    happened[r, k] = 0
                    continue
                stop = nan if is_held else given[1, k]
                update = price_between(start, stop, begin, end, now)
                if update == price_between(start, stop, begin, end, time[r - 1] if r > 0 else before):
                    own[r, k], happened[r, k] = earlier, 0
                    continue
            flags, value = ASSET_UPDATE, update
            if not isnan(rules.guards[INDEX_THRESHOLD, k]):
                reference = index_value(k, r, at_tick, rules, given, index, happened_market, mark, own, asset)
                width = rules.guards[INDEX_THRESHOLD, k]
                value = clamp_price(value, reference * (1.0 - width), reference * (1.0 + width))
            clamped = value
            if not isnan(rules.guards[MEAN_THRESHOLD, k]):
                reference = mean_price(k, r, time, before, price[k], samples, own)
                width = rules.guards[MEAN_THRESHOLD, k]
                value = clamp_price(value, reference * (1.0 - width), reference * (1.0 + width))
            capped = cap_update(value, earlier, now - moment, rules.guards[MIN_UPDATE, k], rules.guards[MAX_UPDATE, k])
            if clamped != update:
                flags |= ASSET_CLAMPED
            if value != clamped:
                flags |= ASSET_BY_MEAN
            if capped != value:
                flags |= ASSET_CAPPED
            if keeps:
                rejected[r, k, 0], rejected[r, k, 1], rejected[r, k, 2] = update, clamped, value
            own[r, k], last[k], happened[r, k], stamp[k] = capped, capped, flags, now
            events[r] |= UPDATED | (REFUSED if flags > ASSET_UPDATE else 0)
        for k in range(own.shape[1]):
            asset[r, k] = own[r, k]
        follow_markets(mark[r], index[r], rules.base_asset, rules.quote_asset, rules.settle, asset[r])


@inner_kernel
def index_value(k, r, at_tick, rules, given, index, happened_market, mark, own, asset):
    """Value of an asset by the index of its first market that has one, NaN if it does not count.

    k                int64       ()      row of the asset
    r                int64       ()      of the instant
    at_tick          bool        ()      the instant is the tick
    rules            AssetRules  ()      see above
    given            float64     (2, K)  own price that counted at the tick before, and given at the tick; NaN: none
    index            float64     (R, M)  that counts, NaN: none
    happened_market  uint8       (R, M)  INDEX_CAPPED and so on
    mark             float64     (R, M)  that counts, NaN: none
    own              float64     (R, K)  own prices that count, of the assets before this one; NaN: none
    asset            float64     (R, K)  scratch
    """
    for m in range(rules.base_asset.size):
        if rules.base_asset[m] == k and not isnan(index[r, m]):
            quote = rules.quote_asset[m]
            pending = quote != rules.settle and quote >= k and not isnan(given[1 if at_tick else 0, quote])
            if happened_market[r, m] & INDEX_CAPPED or pending:
                return nan
            for n in range(own.shape[1]):
                asset[r, n] = own[r, n]
            follow_markets(mark[r], index[r], rules.base_asset, rules.quote_asset, rules.settle, asset[r])
            return index[r, m] * asset[r, quote]
    return nan


@kernel
def add_side_margins(market, lots, price_per_lot, functions, margins):
    """Add the maintenance margins of the long and of the short positions of each market, each rounded.

    market         uint16                (P,)    market row
    lots           int64                 (P,)    signed
    price_per_lot  float64               (M,)    settle quanta
    functions      MarginFunctionArrays  ()      see layouts.py
    margins        int64                 (2, M)  in/out, of the longs and of the shorts, settle quanta
    """
    for p in range(market.size):
        m = np.int64(market[p])
        if lots[p] != 0:
            required = margin_requirement(abs(lots[p]) * price_per_lot[m], 2 * m + 1, functions)
            margins[0 if lots[p] > 0 else 1, m] += np.int64(np.rint(required))
