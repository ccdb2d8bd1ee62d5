"""How long the command line takes to answer when there is nothing to train."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from rich.table import Table

_NUM_TURNS = 9
# Name of a command -> its words, its exit code, the seconds that are promised.
_COMMANDS = {
    "--help": (["--help"], 0, 1.0),
    "a bad configuration": (["task.widht=3", "optimizer=adm"], 2, 2.0),
}


def bench_startup() -> list[Table | str]:
    """Times `python -m trainer` answering for help and for a bad configuration."""
    turns: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(_NUM_TURNS):
        for name, (words, exit_code, _) in _COMMANDS.items():
            turns[name].append(_time(words, exit_code))
    table = Table(
        title=f"startup: python -m trainer, {_NUM_TURNS} turns, seconds",
        title_justify="left",
        width=78,
    )
    for column in ("answer", "median", "quietest", "promised"):
        table.add_column(column, justify="left" if column == "answer" else "right")
    for name, seconds in turns.items():
        figures = f"{median(seconds):.2f}", f"{min(seconds):.2f}"
        table.add_row(name, *figures, f"< {_COMMANDS[name][2]:.0f}")
    middle, least = (sum(f(s) for s in turns.values()) for f in (median, min))
    table.add_row("both", f"{middle:.2f}", f"{least:.2f}", "")
    return [table]


def _time(words: list[str], exit_code: int) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "trainer", *words]
    done = subprocess.run(command, capture_output=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == exit_code, done.stderr.decode()
    return seconds
