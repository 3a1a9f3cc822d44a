// Worst loss of accounts over scenarios in AVX-512: the best that we could write by hand.
//
// An account's sums over up to 208 scenarios stay in 26 of the 32 vector registers while its positions are added in
// their order, each by a multiplication and an addition; the row of the table comes from L2. `contracted` fuses the
// two, which gives other bits. What was tried, on Sapphire Rapids: prefetching the next row gains nothing, since the
// positions of several accounts are in flight at once; sums in memory take twice as long.
#ifndef __AVX512DQ__
#error "no AVX-512"
#endif
#include <immintrin.h>
#include <stdint.h>

typedef __m512d V;

#define INLINE static inline __attribute__((always_inline))

INLINE V plus_product(V sum, V factor, const double *row, int contracted) {
    V x = _mm512_load_pd(row);
    if (contracted) return _mm512_fmadd_pd(factor, x, sum);
    V product = _mm512_mul_pd(factor, x);
    __asm__("" : "+v"(product));  // keep the compiler from contracting the two
    return _mm512_add_pd(sum, product);
}

INLINE void losses(int vectors, int contracted, int64_t accounts, const uint32_t *span, const uint16_t *instrument,
                   const double *size, const double *change, const double *weight, double *loss) {
    for (int64_t a = 0; a < accounts; a++) {
        V sum[26];
#pragma GCC unroll 26
        for (int v = 0; v < vectors; v++) sum[v] = _mm512_setzero_pd();
        for (uint32_t p = span[a]; p < span[a + 1]; p++) {
            const double *row = change + (int64_t)instrument[p] * 8 * vectors;
            V factor = _mm512_set1_pd(size[p]);
#pragma GCC unroll 26
            for (int v = 0; v < vectors; v++) sum[v] = plus_product(sum[v], factor, row + 8 * v, contracted);
        }
        V lowest = _mm512_setzero_pd(), other = lowest;
#pragma GCC unroll 26
        for (int v = 0; v < vectors; v += 2) {
            lowest = _mm512_min_pd(_mm512_mul_pd(sum[v], _mm512_load_pd(weight + 8 * v)), lowest);
            other = _mm512_min_pd(_mm512_mul_pd(sum[v + 1], _mm512_load_pd(weight + 8 * v + 8)), other);
        }
        loss[a] = 0.0 - _mm512_reduce_min_pd(_mm512_min_pd(lowest, other));
    }
}

#define LOSSES(vectors, contracted, name)                                                                     \
    void name(int64_t accounts, const uint32_t *span, const uint16_t *instrument, const double *size,         \
              const double *change, const double *weight, double *loss) {                                     \
        losses(vectors, contracted, accounts, span, instrument, size, change, weight, loss);                  \
    }

LOSSES(26, 0, losses_208)
LOSSES(8, 0, losses_64)
LOSSES(26, 1, losses_208_contracted)
LOSSES(8, 1, losses_64_contracted)
