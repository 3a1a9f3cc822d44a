// SELL-8 in AVX-512: what eight accounts at a time come to when written by hand.
//
// Accounts are sorted by (positions, balances) inside windows and taken in groups of eight, a lane each; a group's rows
// stand column by column, padded with zeros. What was tried, on Zen 5: hardware gathers take twice as long as rows of
// 32 bytes per market transposed in registers, scalar loads 1.5 times; scattering the outputs one by one takes a third
// longer than rows in a window's buffer; a branch at the kink of the square root costs more than a list of the vectors
// above it, set right at the end of the window. Loops unrolled for each shape gain nothing.
#ifndef __AVX512DQ__
#error "no AVX-512"
#endif
#include <immintrin.h>
#include <stdint.h>

#define WINDOW 4096
#define MOST_ROWS 256  // of an account

typedef __m512d V;

typedef struct {  // of a market: price of a lot, notional up to which the rates are flat, rates
    double price, limit, initial, maintenance;
} Row;  // of an asset: price * weight, price, price * rates; row 0 is the settle asset, the first balance of everyone

typedef struct {
    const Row *market, *asset;
    const double *initial_root, *maintenance_root;
} Tables;

typedef struct {
    const uint8_t *positions, *balances;  // rows of each group
    const uint16_t *place;                // of each account in its window
    const uint16_t *market;
    const int32_t *lots;
    const uint8_t *asset;
    const double *balance, *cost;
} Layout;

typedef struct {
    V equity, exposure, initial, maintenance;
} Margin;

typedef struct {  // positions above the limit: vector and first account in the window, lanes
    uint32_t vector;
    uint16_t group, lanes;
} Above;

#define INLINE static inline __attribute__((always_inline))

INLINE V two(const Row *low, const Row *high) {
    return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_load_pd((const double *)low)),
                              _mm256_load_pd((const double *)high), 1);
}

// The four figures of eight rows: transposed.
INLINE void transpose(V row02, V row13, V row46, V row57, V *first, V *second, V *third, V *fourth) {
    V a = _mm512_unpacklo_pd(row02, row13), b = _mm512_unpackhi_pd(row02, row13);
    V c = _mm512_unpacklo_pd(row46, row57), d = _mm512_unpackhi_pd(row46, row57);
    *first = _mm512_shuffle_f64x2(a, c, 0x88);
    *third = _mm512_shuffle_f64x2(a, c, 0xdd);
    *second = _mm512_shuffle_f64x2(b, d, 0x88);
    *fourth = _mm512_shuffle_f64x2(b, d, 0xdd);
}

INLINE void of_markets(const Row *t, const uint16_t *at, V *price, V *limit, V *initial, V *maintenance) {
    uint64_t m, n;  // four ids in one load
    __builtin_memcpy(&m, at, 8);
    __builtin_memcpy(&n, at + 4, 8);
    transpose(two(t + (uint16_t)m, t + (uint16_t)(m >> 32)), two(t + (uint16_t)(m >> 16), t + (m >> 48)),
              two(t + (uint16_t)n, t + (uint16_t)(n >> 32)), two(t + (uint16_t)(n >> 16), t + (n >> 48)), price, limit,
              initial, maintenance);
}

INLINE void add_balances(Margin *sum, const Row *t, const uint8_t *at, const double *balance, int full) {
    V zero = _mm512_setzero_pd(), weighted, price, initial, maintenance, held = _mm512_loadu_pd(balance);
    transpose(two(t + at[0], t + at[2]), two(t + at[1], t + at[3]), two(t + at[4], t + at[6]),
              two(t + at[5], t + at[7]), &weighted, &price, &initial, &maintenance);
    V owed = _mm512_max_pd(_mm512_sub_pd(zero, held), zero);
    __mmask8 negative = _mm512_cmp_pd_mask(held, zero, _CMP_LT_OQ);
    sum->equity = _mm512_fmadd_pd(held, _mm512_mask_blend_pd(negative, weighted, price), sum->equity);
    sum->maintenance = _mm512_fmadd_pd(owed, maintenance, sum->maintenance);
    if (!full) return;
    sum->exposure = _mm512_fmadd_pd(owed, price, sum->exposure);
    sum->initial = _mm512_fmadd_pd(owed, initial, sum->initial);
}

INLINE Margin of_settle(const Row *settle, const double *balance, const double *cost) {
    V zero = _mm512_setzero_pd(), held = _mm512_loadu_pd(balance), owed = _mm512_max_pd(_mm512_sub_pd(zero, held), zero);
    V value = _mm512_fmsub_pd(_mm512_max_pd(held, zero), _mm512_set1_pd(settle->price), owed);
    return (Margin){_mm512_sub_pd(value, _mm512_loadu_pd(cost)), owed,
                    _mm512_mul_pd(owed, _mm512_set1_pd(settle->initial)),
                    _mm512_mul_pd(owed, _mm512_set1_pd(settle->maintenance))};
}

// Add eight positions at the flat rates; return the lanes that are above the limit.
INLINE __mmask8 add_positions(Margin *sum, const Row *t, const uint16_t *market, const int32_t *lots, int full) {
    V price, limit, initial, maintenance;
    of_markets(t, market, &price, &limit, &initial, &maintenance);
    V value = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm256_loadu_si256((const __m256i *)lots)), price);
    V notional = _mm512_abs_pd(value);
    sum->equity = _mm512_add_pd(sum->equity, value);
    sum->maintenance = _mm512_fmadd_pd(notional, maintenance, sum->maintenance);
    if (full) {
        sum->exposure = _mm512_add_pd(sum->exposure, notional);
        sum->initial = _mm512_fmadd_pd(notional, initial, sum->initial);
    }
    return _mm512_cmp_pd_mask(notional, limit, _CMP_GT_OQ);
}

// Margins of the next group, all of it but the roots; ``above`` has room for a row more than it counts.
INLINE Margin next_group(Layout *at, const Tables *t, uint32_t *vector, int64_t group, Above *above, uint32_t *count,
                         int full) {
    int positions = *at->positions++, balances = *at->balances++;
    Margin sum = of_settle(t->asset, at->balance, at->cost);
    do {
        __mmask8 lanes = add_positions(&sum, t->market, at->market, at->lots, full);
        above[*count] = (Above){(*vector)++, (uint16_t)group, lanes};
        *count += lanes != 0;
        at->market += 8;
        at->lots += 8;
    } while (--positions);
    while (--balances) {
        at->asset += 8;
        at->balance += 8;
        add_balances(&sum, t->asset, at->asset, at->balance, full);
    }
    at->asset += 8;
    at->balance += 8;
    at->cost += 8;
    return sum;
}

INLINE double root_of(double x) { return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(x))); }

INLINE double not_negative(double x) { return x > 0 ? x : 0; }

// What a position above the limit requires beyond the flat rate.
INLINE double beyond(double notional, double root, double factor, double rate) {
    return notional * not_negative(factor * root - rate);
}

// The four outputs of every account, in the user's order; outputs are aligned to 64 bytes.
void sell_full(int64_t accounts, const Layout *layout, const Tables *t, double *equity, double *exposure,
               double *initial, double *maintenance) {
    static _Alignas(64) double rows[WINDOW + 8][4];
    static Above above[WINDOW / 8 * MOST_ROWS + 1];
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    Layout at = *layout;
    for (int64_t first = 0; first < accounts; first += WINDOW) {
        int64_t count = accounts - first < WINDOW ? accounts - first : WINDOW;
        const Layout start = at;
        uint32_t vector = 0, listed = 0;
        for (int64_t group = 0; group < count; group += 8) {
            Margin sum = next_group(&at, t, &vector, group, above, &listed, 1);
            V a = _mm512_unpacklo_pd(sum.equity, sum.exposure), b = _mm512_unpackhi_pd(sum.equity, sum.exposure);
            V c = _mm512_unpacklo_pd(sum.initial, sum.maintenance), d = _mm512_unpackhi_pd(sum.initial, sum.maintenance);
            V even[2] = {_mm512_permutex2var_pd(a, low, c), _mm512_permutex2var_pd(a, high, c)};
            V odd[2] = {_mm512_permutex2var_pd(b, low, d), _mm512_permutex2var_pd(b, high, d)};
            for (int half = 0; half < 2; half++) {
                const uint16_t *place = at.place + 4 * half;
                _mm256_store_pd(rows[place[0]], _mm512_castpd512_pd256(even[half]));
                _mm256_store_pd(rows[place[1]], _mm512_castpd512_pd256(odd[half]));
                _mm256_store_pd(rows[place[2]], _mm512_extractf64x4_pd(even[half], 1));
                _mm256_store_pd(rows[place[3]], _mm512_extractf64x4_pd(odd[half], 1));
            }
            at.place += 8;
        }
        for (uint32_t n = 0; n < listed; n++) {
            for (unsigned lanes = above[n].lanes; lanes; lanes &= lanes - 1) {
                int lane = __builtin_ctz(lanes), j = 8 * above[n].vector + lane, m = start.market[j];
                double notional = __builtin_fabs(start.lots[j] * t->market[m].price), root = root_of(notional);
                double *row = rows[start.place[above[n].group + lane]];
                row[2] += beyond(notional, root, t->initial_root[m], t->market[m].initial);
                row[3] += beyond(notional, root, t->maintenance_root[m], t->market[m].maintenance);
            }
        }
        int64_t k = 0;
        for (; k + 8 <= count; k += 8) {
            V out[4];
            const Row *r = (const Row *)rows[k];
            transpose(two(r, r + 2), two(r + 1, r + 3), two(r + 4, r + 6), two(r + 5, r + 7), out, out + 1, out + 2,
                      out + 3);
            _mm512_stream_pd(equity + first + k, out[0]);
            _mm512_stream_pd(exposure + first + k, out[1]);
            _mm512_stream_pd(initial + first + k, out[2]);
            _mm512_stream_pd(maintenance + first + k, out[3]);
        }
        for (; k < count; k++) {
            equity[first + k] = rows[k][0];
            exposure[first + k] = rows[k][1];
            initial[first + k] = rows[k][2];
            maintenance[first + k] = rows[k][3];
        }
    }
    _mm_sfence();
}

// The accounts whose maintenance margin is not below their equity, ascending; return how many.
int64_t sell_select(int64_t accounts, const Layout *layout, const Tables *t, uint32_t *selected) {
    static _Alignas(64) double gap[WINDOW + 8];
    static Above above[WINDOW / 8 * MOST_ROWS + 1];
    Layout at = *layout;
    int64_t found = 0;
    for (int64_t first = 0; first < accounts; first += WINDOW) {
        int64_t count = accounts - first < WINDOW ? accounts - first : WINDOW;
        const Layout start = at;
        uint32_t vector = 0, listed = 0;
        uint64_t bits[WINDOW / 64] = {0};
        for (int64_t group = 0; group < count; group += 8) {
            Margin sum = next_group(&at, t, &vector, group, above, &listed, 0);
            _mm512_store_pd(gap + group, _mm512_sub_pd(sum.equity, sum.maintenance));
        }
        for (uint32_t n = 0; n < listed; n++) {
            for (unsigned lanes = above[n].lanes; lanes; lanes &= lanes - 1) {
                int lane = __builtin_ctz(lanes), j = 8 * above[n].vector + lane, m = start.market[j];
                double notional = __builtin_fabs(start.lots[j] * t->market[m].price), root = root_of(notional);
                gap[above[n].group + lane] -= beyond(notional, root, t->maintenance_root[m], t->market[m].maintenance);
            }
        }
        for (int64_t group = 0; group < count; group += 8) {
            unsigned hit = _mm512_cmp_pd_mask(_mm512_load_pd(gap + group), _mm512_setzero_pd(), _CMP_NGT_UQ);
            for (; hit; hit &= hit - 1) {
                int place = at.place[__builtin_ctz(hit)];
                bits[place / 64] |= 1ull << (place % 64);
            }
            at.place += 8;
        }
        for (int word = 0; word < WINDOW / 64; word++)
            for (uint64_t left = bits[word]; left; left &= left - 1)
                selected[found++] = (uint32_t)(first + 64 * word + __builtin_ctzll(left));
    }
    return found;
}
