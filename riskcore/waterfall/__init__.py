"""The liquidation waterfall: one module per phase, run in the order of `PHASES` on the accounts selected in a tick."""

from . import adl, backstop, book, cancel, close_out, repay

PHASES = (cancel.cancel_orders, repay.repay_borrows, book.sell_slices, backstop.hand_over, adl.deleverage,
          close_out.close_out)  # fmt: skip

__all__ = ["PHASES"]
