// The floor: read every input byte of the compact layout, write the four outputs, compute nothing.
#include <stdint.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef uint64_t Line __attribute__((vector_size(64), aligned(1), may_alias));

// Four streams of loads: one alone does not fill the memory's queues.
static Line read_all(const void *from, int64_t bytes) {
    const char *p = from, *end = p + bytes;
    Line a = {0}, b = a, c = a, d = a;
    for (; p + 256 <= end; p += 256) {
        a ^= *(const Line *)p;
        b ^= *(const Line *)(p + 64);
        c ^= *(const Line *)(p + 128);
        d ^= *(const Line *)(p + 192);
    }
    for (; p < end; p++) a[0] ^= (uint8_t)*p;
    return a ^ b ^ c ^ d;
}

static uint64_t folded(Line line) {
    uint64_t sum = 0;
    for (int k = 0; k < 8; k++) sum ^= line[k];
    return sum;
}

uint64_t touch_inputs(int64_t accounts, const uint32_t *position_offset, const uint16_t *market, const int32_t *lots,
                      const uint32_t *balance_offset, const uint8_t *asset, const double *balance, const double *cost) {
    int64_t positions = position_offset[accounts], balances = balance_offset[accounts];
    Line sum = read_all(position_offset, 4 * accounts + 4) ^ read_all(balance_offset, 4 * accounts + 4);
    sum ^= read_all(market, 2 * positions) ^ read_all(lots, 4 * positions);
    sum ^= read_all(asset, balances) ^ read_all(balance, 8 * balances) ^ read_all(cost, 8 * accounts);
    return folded(sum);
}

// Outputs are aligned to 64 bytes.
uint64_t touch(int64_t accounts, const uint32_t *position_offset, const uint16_t *market, const int32_t *lots,
               const uint32_t *balance_offset, const uint8_t *asset, const double *balance, const double *cost,
               double *equity, double *exposure, double *initial, double *maintenance) {
    uint64_t sum = touch_inputs(accounts, position_offset, market, lots, balance_offset, asset, balance, cost);
    int64_t a = 0;
#ifdef __AVX512F__
    __m512d value = _mm512_set1_pd((double)sum);
    for (; a + 8 <= accounts; a += 8) {
        _mm512_stream_pd(equity + a, value);
        _mm512_stream_pd(exposure + a, value);
        _mm512_stream_pd(initial + a, value);
        _mm512_stream_pd(maintenance + a, value);
    }
    _mm_sfence();
#endif
    for (; a < accounts; a++) equity[a] = exposure[a] = initial[a] = maintenance[a] = (double)sum;
    return sum;
}
