"""Scenario margin of portfolios: models as data, the table of record of a tick, requirements; no venue, no accounts."""
