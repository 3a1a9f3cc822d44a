"""Limits of numbers, chosen so that no sum of whole numbers passes 64 bits."""

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
AMOUNT_LIMIT = 2**62
"""Every amount, and the sum over all accounts, is less than this many quanta or lots."""
TOTAL_LIMIT = 2**61
"""All lots of a market, and of a side of a book, are less than this many, and worth less than this many quanta."""
POSITION_LIMIT = 2**60
"""A position is worth less than this many settle quanta at maxPrice; so is the cost of all positions of an account."""
EXACT_LIMIT = 2**53
"""float64 holds every whole number up to this one."""
MAX_ROWS = 2**16 - 2
"""Markets, and assets, of a venue: two bytes say which one, or none."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Prices of users are in this range, so that results computed from them stay far inside float64."""
