"""Random activity between random ticks: the engine against the exact model, row by row, and in recorded runs."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from riskcore import Engine, RiskDataError, reference
from riskcore.audit import audit
from riskcore.sample import two_accounts

from .activities import Scribe
from .comparison import assert_same_row, assert_same_state, natural_rows, totals
from .eventful import EventfulInput, eventful_scenes
from .strategies import Scene, TickInput, scenes

SEEDS = st.integers(0, 2**32)


class Pair:
    """An engine and the exact model, which go through the same ticks and actions."""

    def __init__(self, scene: Scene, seed: int, book: str = "engine"):
        venue, accounts = scene.load()
        self.scene, self.rng, self.book = scene, random.Random(seed), book
        self.engine = Engine(accounts, venue, scene.seed, book=book)
        self.venue, self.state = scene.load_reference()
        self.state.book_of_host = book == "host"
        self.prices: reference.Prices | None = None

    def tick(self, inputs: TickInput) -> None:
        """A tick in both; one that the model refuses the engine refuses too."""
        arguments, more = inputs.reference_arguments(), {"lows": inputs.lows, "highs": inputs.highs}
        if isinstance(inputs, EventfulInput):
            more = inputs.events()
        try:
            after, rows, seen = reference.step(self.venue, self.state, *arguments, **more, seed=self.scene.seed)
        except ValueError:
            with pytest.raises(RiskDataError):
                self.engine.step(inputs.tick())
            return
        self.compare(natural_rows(self.engine.step(inputs.tick())), rows)
        self.state, self.prices = after, seen.prices
        for row in rows:
            event(f"{row['event']}: {row['reason']}")

    def act(self) -> None:
        """Actions in both: those that the model refuses one by one, the others in a batch, also with one that fails."""
        check, accepted = self.rng.choice(("on", "on", "off")), []
        trial = self.state
        for action in Scribe(self.rng, self.venue, self.state, self.prices).actions():
            try:
                trial, rows = reference.apply(self.venue, trial, [action], self.prices, check)
            except reference.Refused as error:
                event(f"{check}: {action['action']}: {str(error)[7:24]}")
                with pytest.raises(RiskDataError):
                    self.engine.apply([*accepted, action], check=check)
                continue
            accepted.append(action)
            for row in rows:
                event(f"{row['event']}: {row['reason']}")
        if accepted:
            after, rows = reference.apply(self.venue, self.state, accepted, self.prices, check)
            self.compare(natural_rows(self.engine.apply(accepted, check=check)), rows)
            self.state = after

    def compare(self, found: list[dict], rows: list[dict]) -> None:
        """The rows of both."""
        for place, (ours, theirs) in enumerate(zip(found, rows, strict=False)):
            assert_same_row(ours, theirs, place)
        assert len(found) == len(rows)

    def go(self, folder: Path | None = None) -> None:
        """All ticks and activity; the engine is saved and resumed now and then where there is a folder."""
        everything = None
        for inputs in [None, *self.scene.ticks]:
            if inputs is not None:
                self.tick(inputs)
            for _ in range(self.rng.randint(0, 3)):
                self.act()
                if folder is not None and self.rng.random() < 0.3:
                    self.engine.save(folder, complete=False)
                    self.engine = Engine.resume(folder)
            assert_same_state(self.engine, self.state.venue or self.venue, self.state)
            everything = everything or totals(self.engine, self.engine.venue)
            assert totals(self.engine, self.engine.venue) == everything


@settings(max_examples=20)
@given(SEEDS, st.booleans().flatmap(lambda mixed: scenes(ticks=2, most=6, live=True, mixed=mixed)))
def test_activity_equals_the_model(seed: int, scene: Scene):
    Pair(scene, seed).go()


@settings(max_examples=12)
@given(SEEDS, st.booleans().flatmap(lambda mixed: scenes(ticks=3, most=6, live=True, mixed=mixed)))
def test_activity_of_a_host_equals_the_model(seed: int, scene: Scene):
    Pair(scene, seed, "host").go()


@settings(max_examples=6)
@given(SEEDS, st.booleans().flatmap(lambda clocked: eventful_scenes(ticks=3, clocked=clocked)))
def test_activity_between_events_equals_the_model(seed: int, scene: Scene):
    """Funding, venue changes and delistings, with and without the clock."""
    Pair(scene, seed).go()


@settings(max_examples=4)
@given(SEEDS, st.sampled_from(["engine", "host"]), scenes(ticks=3, most=5, live=True))
def test_a_run_that_is_resumed_passes_the_audit(seed: int, book: str, scene: Scene):
    with tempfile.TemporaryDirectory() as name:
        pair, path = Pair(scene, seed, book), Path(name) / "run"
        pair.go(path)
        pair.engine.save(path)
        report = audit(path, reference=True)
        assert report.ok, report.breaches.to_dict("records")


def test_an_order_with_the_number_of_one_that_was_taken_back_shrinks():
    """A refused batch places an order of number 0; the next one of this number is reduce-only."""
    venue, accounts = two_accounts()
    engine, market = Engine(accounts, venue), "SOL_USDC_PERP"
    order = {"action": "place", "account": 1, "market": market, "side": "ask", "quantity": 10.0, "price": 250.0}
    with pytest.raises(RiskDataError):
        engine.apply([order, order | {"account": 99}], check="off")
    engine.apply([order | {"reduce_only": True}], check="off")
    held = engine.account(1).positions[market].quantity
    engine.account(1).fill(market, 1.0 - held, 200.0, check="off")
    assert engine.account(1).orders["0"].quantity == 1.0
