"""A request to stop, from a signal or a rank, stops all ranks at the same step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.distributed import run_distributed
from trainer.distributed import Distributed
from trainer.preemption import (
    Agreement,
    StopReason,
    StopRequest,
    stop_on_signals,
)

REPOSITORY = Path(__file__).parents[2]
NUM_TRIES = 20


def test_the_first_source_of_the_strongest_reason_is_kept() -> None:
    request = StopRequest()
    assert not request.reason
    request.ask(StopReason.TIME_UP, "clock")
    assert (request.reason, request.source) == (StopReason.TIME_UP, "clock")
    request.ask(StopReason.INTERRUPTED, "SIGTERM")
    request.ask(StopReason.INTERRUPTED, "SIGINT")
    request.ask(StopReason.TIME_UP, "clock")
    assert (request.reason, request.source) == (StopReason.INTERRUPTED, "SIGTERM")


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request(number: signal.Signals) -> None:
    request = StopRequest()
    with stop_on_signals(request):
        os.kill(os.getpid(), number)
    assert (request.reason, request.source) == (StopReason.INTERRUPTED, number.name)


def test_the_echo_of_a_signal_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torchrun's agent passes on what the terminal has sent to every process already.
    # However slow this machine is: a second one would end this process.
    monkeypatch.setattr("trainer.preemption._ECHO_S", 60.0)
    request = StopRequest()
    with stop_on_signals(request):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
    assert request.reason is StopReason.INTERRUPTED


def test_sigterm_never_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.preemption._ECHO_S", 0.0)
    request = StopRequest()
    with stop_on_signals(request):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    assert request.source == "SIGTERM"


def test_former_handlers_are_put_back_also_after_an_error() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def fail_inside() -> None:
        with stop_on_signals(StopRequest()):
            assert [signal.getsignal(number) for number in numbers] != before
            raise LookupError

    with pytest.raises(LookupError):
        fail_inside()
    assert [signal.getsignal(number) for number in numbers] == before


def test_outside_the_main_thread_handlers_stay() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside = []

    def run() -> None:
        with stop_on_signals(StopRequest()):
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before]


# Counts steps for ever; says when it is ready and when it was asked.
COUNT = """
import time
from trainer.preemption import StopRequest, stop_on_signals
request = StopRequest()
with stop_on_signals(request):
    print("ready", flush=True)
    while not request.reason:
        time.sleep(0.01)
    print(request.source, flush=True)
    time.sleep(60)
"""


def test_a_second_ctrl_c_stops_at_once_and_says_how_to_go_on() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "SIGINT\n"
            time.sleep(0.7)  # longer than an echo takes
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(5.0) == 75
            assert process.stderr is not None
            assert "the same words continue" in process.stderr.read()
        finally:
            process.kill()


# --- agreement ---


Steps = list[tuple[int, int]]  # of each try


def run_agreements() -> tuple[dict[str, Steps], StopReason]:
    """Returns the steps at which this rank asked, stopped and saved in each try.

    Then the reason that is agreed on when each rank has one of its own.
    """
    distributed = Distributed(use_gpu=False)
    found: dict[str, Steps] = {"asked": [], "stopped": [], "saved": []}
    for number in range(NUM_TRIES):
        agreement = Agreement(distributed)
        asks = number % 2 == distributed.rank
        step, reason = 0, StopReason.NONE
        while reason is StopReason.NONE:
            step += 1
            # Steps of different length: neither rank waits for the other's.
            time.sleep(0.002 * ((step + distributed.rank) % 2))
            own = StopReason.INTERRUPTED if asks and step > number else StopReason.NONE
            if own and step == number + 1:
                found["asked"].append((number, step))
            wants_save = asks and step == 1 + number // 2
            reason, should_save = agreement.decide(own, wants_save=wants_save)
            if should_save:
                found["saved"].append((number, step))
        found["stopped"].append((number, step))
        agreement.close()
    agreement = Agreement(distributed)
    own = (StopReason.TIME_UP, StopReason.INTERRUPTED)[distributed.rank]
    agreement.decide(own, wants_save=False)
    strongest, _ = agreement.decide(own, wants_save=False)
    agreement.close()
    distributed.close()
    return found, strongest


def test_all_ranks_stop_and_save_at_the_same_step_whoever_asks() -> None:
    (zero, strongest), (one, strongest_of_one) = run_distributed(run_agreements)
    assert strongest is strongest_of_one is StopReason.INTERRUPTED
    assert zero["stopped"] == one["stopped"]
    assert len(zero["stopped"]) == NUM_TRIES
    assert zero["saved"] == one["saved"]
    assert len(zero["saved"]) == NUM_TRIES  # each request is one save
    asked = dict(zero["asked"] + one["asked"])
    assert len(asked) == NUM_TRIES
    for number, step in zero["stopped"]:
        assert step == asked[number] + 1  # one step later, and never before


def test_one_process_needs_nobody_to_agree() -> None:
    agreement = Agreement(Distributed(use_gpu=False))
    decided = agreement.decide(StopReason.TIME_UP, wants_save=True)
    assert decided == (StopReason.TIME_UP, True)
    agreement.close()
