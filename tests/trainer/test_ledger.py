"""Every second of a run is in one phase of its ledger."""

from __future__ import annotations

import time

import pytest

from trainer.ledger import Ledger, Phase


def test_the_phases_sum_to_the_wall_time() -> None:
    started = time.monotonic()
    ledger = Ledger(started)
    time.sleep(0.02)
    ledger.enter(Phase.TRAIN)
    time.sleep(0.03)
    with ledger.during(Phase.EVALUATE):
        time.sleep(0.04)
        with ledger.during(Phase.CHECKPOINT):
            time.sleep(0.05)
    time.sleep(0.01)
    before = time.monotonic()
    totals = ledger.totals()
    after = time.monotonic()
    assert before - started <= sum(totals.values()) <= after - started
    slept = {"startup": 0.02, "train": 0.04, "evaluate": 0.04, "checkpoint": 0.05}
    for phase, seconds in slept.items():
        assert seconds <= totals[phase]
    assert totals["lost"] == totals["unknown"] == 0.0


def test_a_phase_that_raises_ends_all_the_same() -> None:
    ledger = Ledger()
    ledger.enter(Phase.TRAIN)
    with pytest.raises(LookupError), ledger.during(Phase.CHECKPOINT):
        raise LookupError
    before = ledger.totals()
    time.sleep(0.02)
    after = ledger.totals()
    assert after["train"] - before["train"] >= 0.02
    assert after["checkpoint"] == before["checkpoint"]


def test_earlier_attempts_add_to_their_phases() -> None:
    started = time.monotonic()
    ledger = Ledger(started)
    ledger.add({"train": 100.0, "lost": 7.0})
    totals = ledger.totals()
    assert totals["train"] == 100.0
    assert totals["lost"] == 7.0
    assert 107.0 < sum(totals.values()) <= 107.0 + time.monotonic() - started


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="coffee"):
        Ledger().add({"coffee": 1.0})
