"""Option prices to 60 digits, and the accuracy of `riskcore.options` against them.

python -m tests.option_prices --count 30000
"""

import argparse

import mpmath
import numpy as np

from riskcore.options import black76

mpmath.mp.dps = 60
BAR, RELATIVE_BAR, SMALLEST_RELATIVE = 1e-14, 1e-9, 1e-12  # of discount * max(forward, strike)


def probability(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def exact_price(forward, strike, volatility, years, discount=1.0, right="C"):
    """Value of one unit of the exact formula; its arguments are taken as the float64 that they are."""
    f, k, d = mpmath.mpf(forward), mpmath.mpf(strike), mpmath.mpf(discount)
    v = mpmath.mpf(volatility) * mpmath.sqrt(mpmath.mpf(years))
    sign = 1 if right == "C" else -1
    if v == 0 or f == 0:
        return d * max(sign * (f - k), mpmath.mpf(0))
    d1 = mpmath.log(f / k) / v + v / 2
    return d * sign * (f * probability(sign * d1) - k * probability(sign * (d1 - v)))


def random_cases(count, seed=0):
    """Columns of cases: the deviation from 1e-4 to 10, strike over forward from e^-3 to e^3."""
    rng = np.random.default_rng(seed)
    forward = np.exp(rng.uniform(-10, 12, count))
    years = np.exp(rng.uniform(np.log(1e-6), np.log(10), count))
    return {
        "forward": forward,
        "strike": forward * np.exp(rng.uniform(-3, 3, count) * rng.choice([1, 0.1, 0.001], count)),
        "volatility": np.exp(rng.uniform(np.log(1e-4), np.log(10), count)) / np.sqrt(years),
        "years": years,
        "discount": rng.uniform(0.5, 1.0, count),
        "right": rng.choice(["C", "P"], count),
    }


def errors(cases):
    """Error of each price over the scale, and the relative error of the out-of-the-money prices above the least one."""
    prices = black76(**cases)
    absolute, relative = [], []
    for price, *case in zip(prices.tolist(), *(column.tolist() for column in cases.values()), strict=True):
        forward, strike, _, _, discount, right = case
        exact, scale = exact_price(*case), discount * max(forward, strike)
        absolute.append(float(abs(price - exact) / scale))
        if (strike >= forward) == (right == "C") and exact > SMALLEST_RELATIVE * scale:
            relative.append(float(abs(price / exact - 1)))
    return np.array(absolute), np.array(relative)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    absolute, relative = errors(random_cases(given.count, given.seed))
    print(f"{len(absolute):,} prices: largest error {absolute.max():.2g} of discount * max(forward, strike)")
    print(f"{len(relative):,} out of the money above 1e-12 of it: largest relative error {relative.max():.2g}")


if __name__ == "__main__":
    main()
