// What one writes in C: accounts in the user's order, a loop over each one's rows; for gcc -O3 -march=native.
#include <math.h>
#include <stdint.h>

// A ternary, not fmax: without -ffast-math that is a call into libm.
static inline double larger(double a, double b) { return a > b ? a : b; }

typedef struct {
    const double *price, *limit, *initial, *maintenance, *initial_root, *maintenance_root;  // of a market
    const double *asset_price, *weight, *asset_initial, *asset_maintenance;
} Tables;

// 64-bit offsets, 32-bit ids, quantities and entry prices in float64.
void textbook(int64_t accounts, const int64_t *position_offset, const int32_t *market, const double *quantity,
              const double *entry, const int64_t *balance_offset, const int32_t *asset, const double *balance,
              const Tables *t, double *restrict equity, double *restrict exposure, double *restrict initial,
              double *restrict maintenance) {
    for (int64_t a = 0; a < accounts; a++) {
        double net = 0, gross = 0, locked = 0, required = 0;
        for (int64_t j = balance_offset[a]; j < balance_offset[a + 1]; j++) {
            int32_t k = asset[j];
            double value = balance[j] * t->asset_price[k];
            if (value >= 0) {
                net += value * t->weight[k];
            } else {
                net += value;
                gross -= value;
                locked -= value * t->asset_initial[k];
                required -= value * t->asset_maintenance[k];
            }
        }
        for (int64_t j = position_offset[a]; j < position_offset[a + 1]; j++) {
            int32_t m = market[j];
            double notional = fabs(quantity[j] * t->price[m]), root = sqrt(notional);
            net += quantity[j] * (t->price[m] - entry[j]);
            gross += notional;
            locked += notional * larger(t->initial[m], t->initial_root[m] * root);
            required += notional * larger(t->maintenance[m], t->maintenance_root[m] * root);
        }
        equity[a] = net;
        exposure[a] = gross;
        initial[a] = locked;
        maintenance[a] = required;
    }
}

// 32-bit offsets, 16-bit markets, 32-bit lots (the price is that of a lot), one cost per account, 8-bit assets.
void compact(int64_t accounts, const uint32_t *position_offset, const uint16_t *market, const int32_t *lots,
             const uint32_t *balance_offset, const uint8_t *asset, const double *balance, const double *cost,
             const Tables *t, double *restrict equity, double *restrict exposure, double *restrict initial,
             double *restrict maintenance) {
    for (int64_t a = 0; a < accounts; a++) {
        double net = 0, gross = 0, locked = 0, required = 0, worth = 0;
        for (uint32_t j = balance_offset[a]; j < balance_offset[a + 1]; j++) {
            uint8_t k = asset[j];
            double value = balance[j] * t->asset_price[k];
            if (value >= 0) {
                net += value * t->weight[k];
            } else {
                net += value;
                gross -= value;
                locked -= value * t->asset_initial[k];
                required -= value * t->asset_maintenance[k];
            }
        }
        for (uint32_t j = position_offset[a]; j < position_offset[a + 1]; j++) {
            uint16_t m = market[j];
            double value = lots[j] * t->price[m], notional = fabs(value);
            worth += value;
            gross += notional;
            if (notional <= t->limit[m]) {
                locked += notional * t->initial[m];
                required += notional * t->maintenance[m];
            } else {
                double root = sqrt(notional);
                locked += notional * larger(t->initial[m], t->initial_root[m] * root);
                required += notional * larger(t->maintenance[m], t->maintenance_root[m] * root);
            }
        }
        equity[a] = net + (worth - cost[a]);
        exposure[a] = gross;
        initial[a] = locked;
        maintenance[a] = required;
    }
}
