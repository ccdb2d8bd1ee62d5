"""Forks processes that save without end, for a test that kills them.

Started with a run's URL. For each line on standard input it forks a child, prints
`started PID`, and `ended` when the child is dead. A child prints `saved STEP` once
that step is acknowledged. Forking spares each child the import of torch.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from checkpoints import CheckpointManager


def make_state(step: int) -> dict[str, Any]:
    values = {str(i): torch.full((60_000,), float(step)) for i in range(8)}
    return {"tensors": values, "progress": {"step": step}}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def save_for_ever(run_url: str) -> None:
    manager = CheckpointManager(run_url, keep_latest=2)
    state = make_state(0)
    info = manager.restore(state)
    step = info.step if info else 0
    while True:
        step += 1
        manager.save(step, make_state(step)).wait()
        say(f"saved {step}")


def main(run_url: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            save_for_ever(run_url)
        say(f"started {child}")
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    main(sys.argv[1])
