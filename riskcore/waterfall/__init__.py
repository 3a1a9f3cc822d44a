"""The liquidation waterfall: one module per phase, run in the order of `PHASES` on the accounts selected in a tick."""

from . import adl, backstop, book, cancel, close_out, lends, repay
from .tick_state import TickState


def work_off(state: TickState) -> None:
    """Repay borrows and sell positions side by side, slice by slice."""
    for turn in range(state.venue.policy.slices_per_tick):
        repay.repay_borrows(state, turn)
        book.sell_slices(state, turn)


PHASES = (
    cancel.cancel_orders, work_off, backstop.hand_over, lends.settle_lends, adl.deleverage, close_out.close_out,
)  # fmt: skip

__all__ = ["PHASES"]
