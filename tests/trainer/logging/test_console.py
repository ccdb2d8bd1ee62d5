"""Progress fits a terminal of 80 columns, and is a few plain lines elsewhere."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from trainer.logging.console import ConsoleDisplay, describe, format_duration
from trainer.logging.progress import Snapshot

START = Snapshot(step=0, last_step=300)
FULL = Snapshot(
    step=100_000,
    last_step=300_000,
    epoch=12,
    loss=12.34567,
    samples_per_s=123_456.7,
    seconds_left=7_620.0,
    eval_metrics={"eval/loss": 0.1234, "eval/accuracy": 0.9876, "eval/f1": 0.5},
    checkpoint_step=99_900,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.7, "1h00m"),
        (7_620, "2h07m"),
        (86_400 * 5 + 3 * 3600, "5d03h"),
    ],
)
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_line_has_what_is_known() -> None:
    assert describe(START) == "step 0/300"
    assert describe(replace(START, last_step=None, step=4)) == "step 4"
    trained = replace(START, step=20, loss=0.51234, samples_per_s=1234.5)
    assert describe(trained) == "step 20/300  loss 0.5123  1,234/s"


def test_a_full_line_fits_80_columns_with_all_that_matters() -> None:
    line = describe(FULL)
    assert len(line) <= 80
    for word in (
        "step 100000/300000",
        "loss 12.3457",
        "123,457/s",
        "2h07m left",
        "saved 99900",
    ):
        assert word in line


def test_evaluation_metrics_take_the_room_that_is_left() -> None:
    short = replace(FULL, step=40, last_step=300, samples_per_s=900.0)
    short = replace(short, seconds_left=9.0, checkpoint_step=40)
    line = describe(short)
    assert len(line) <= 80
    assert "eval/loss 0.1234" in line


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=40)


def live_console(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width)


def test_where_there_is_no_terminal_lines_come_seldom_and_the_last_one_always() -> None:
    console = plain_console()
    with ConsoleDisplay(console) as display:
        for step in range(1, 51):
            display.show(replace(FULL, step=step))
    lines = shown(console).splitlines()
    # Whole, however narrow: such output is read by programs and in files.
    assert lines == [describe(replace(FULL, step=step)) for step in (1, 50)]
    assert "\x1b" not in shown(console)


def test_plain_lines_come_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.logging.console._PLAIN_INTERVAL_S", 0.0)
    console = plain_console()
    with ConsoleDisplay(console) as display:
        for step in (1, 2, 3):
            display.show(replace(START, step=step))
    expected = [f"step {step}/300" for step in (1, 2, 3)]  # the last one not twice
    assert shown(console).splitlines() == expected


def test_a_display_that_shows_nothing_prints_nothing() -> None:
    console = plain_console()
    with ConsoleDisplay(console):
        pass
    assert shown(console) == ""


def test_a_terminal_has_one_line_that_changes() -> None:
    console = live_console(80)
    with ConsoleDisplay(console) as display:
        for step in (1, 2):
            display.show(replace(FULL, step=step))
    text = shown(console)
    assert describe(replace(FULL, step=1)) in text
    assert describe(replace(FULL, step=2)) in text
    assert "\r" in text
    assert text.count("\n") == 1  # the end


def test_a_wide_terminal_has_a_bar_beside_the_line() -> None:
    console = live_console(100)
    with ConsoleDisplay(console) as display:
        display.show(replace(FULL, step=150_000))
    text = shown(console)
    assert "━" in text
    assert describe(replace(FULL, step=150_000)) in text
    assert text.count("\n") == 1


def test_a_live_display_stops_when_training_fails() -> None:
    threads = threading.active_count()
    console = live_console(80)

    def fail() -> None:
        with ConsoleDisplay(console) as display:
            display.show(START)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert shown(console).endswith("\x1b[?25h")  # the cursor is visible again
    assert threading.active_count() == threads
