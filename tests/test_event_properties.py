"""Guards of collateral, the funding table and venue changes in the engine against the oracle, row by row."""

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from riskcore import Engine, RiskDataError, reference
from tests.comparison import assert_same_journal, assert_same_state, totals
from tests.eventful import eventful_scenes
from tests.strategies import Scene


def assert_equals_the_oracle(scene: Scene) -> set[str]:
    """Step both through the scene's ticks; what one refuses the other refuses too. Returns what happened."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    engine = Engine(accounts, venue, scene.seed)
    everything, happened = totals(engine, venue), set()
    for inputs in scene.ticks:
        arguments = inputs.reference_arguments()
        try:
            after, rows, seen = reference.step(oracle, state, *arguments, seed=scene.seed, **inputs.events())
        except ValueError:
            with pytest.raises(RiskDataError):
                engine.step(inputs.tick())
            assert_same_state(engine, oracle, state)
            happened.add("refused")
            continue
        happened |= {f"{row['event']}: {row['reason']}" for row in rows}
        result = engine.step(inputs.tick())
        assert_same_journal(result, rows, after.venue, state, seen.prices, seen)
        assert_same_state(engine, after.venue, after)
        assert totals(engine, venue) == everything
        state = after
    return happened


@settings(max_examples=15)
@given(st.integers(2, 4).flatmap(lambda ticks: eventful_scenes(ticks=ticks)))
def test_events_equal_the_oracle(scene: Scene):
    for kind in assert_equals_the_oracle(scene):
        event(kind)


@settings(max_examples=8)
@given(st.integers(2, 3).flatmap(lambda ticks: eventful_scenes(ticks=ticks, mixed=True)))
def test_events_of_several_assets_equal_the_oracle(scene: Scene):
    for kind in assert_equals_the_oracle(scene):
        event(kind)


@settings(max_examples=12)
@given(st.integers(2, 3).flatmap(lambda ticks: eventful_scenes(ticks=ticks, clocked=True)))
def test_events_at_their_instants_equal_the_oracle(scene: Scene):
    for kind in assert_equals_the_oracle(scene):
        event(kind)


@settings(max_examples=12)
@given(eventful_scenes(ticks=3, clocked=True, mixed=True))
def test_events_of_several_assets_at_their_instants_equal_the_oracle(scene: Scene):
    for kind in assert_equals_the_oracle(scene):
        event(kind)
