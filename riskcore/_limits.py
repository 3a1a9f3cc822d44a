"""Limits of numbers, chosen so that no sum of whole numbers passes 64 bits."""

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
AMOUNT_LIMIT = 2**62
"""Every amount, and what all accounts have together, is less than this many quanta or lots."""
TOTAL_LIMIT = 2**61
"""All lots of a market, and of a side of a book, are less than this many, and worth less than this many quanta."""
POSITION_LIMIT = 2**60
"""A position is worth less than this many settle quanta at maxPrice; so is all that an account paid for positions."""
EXACT_LIMIT = 2**53
"""float64 holds every whole number up to this one."""
MAX_ROWS = 2**16 - 2
"""Markets, and assets, of a venue: two bytes say which one, or none."""
SMALLEST, LARGEST = 1e-30, 1e30
"""Prices that are read are in this range, so that what is computed from them stays far inside float64."""
