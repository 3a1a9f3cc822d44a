"""Backtest engines as hosts: riskcore decides what is liquidated, the host trades and keeps its own books."""
