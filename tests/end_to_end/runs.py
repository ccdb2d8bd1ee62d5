"""Starts the real command line in processes of its own, and reads what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

TRAINER = (sys.executable, "-m", "trainer")


class Launcher(StrEnum):
    """The three ways to run."""

    HERE = "here"
    TORCHRUN = "torchrun"
    RAY = "ray"


def command(launcher: Launcher, words: Sequence[str], num_ranks: int = 2) -> list[str]:
    """Returns the command line of a launcher with these words."""
    if launcher is Launcher.HERE:
        return [*TRAINER, *words]
    if launcher is Launcher.RAY:
        return [*TRAINER, f"scaling=ray_{num_ranks}", *words]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
    # Port 0 on the local host: several of these may run at once.
    free = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    return [*torchrun, str(num_ranks), *free, "-m", "trainer", *words]


class Run:
    """One started command line; its processes are a session of their own.

    Args:
        line: the command line.
        log: takes standard output and standard error.
    """

    def __init__(self, line: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                line, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        """Everything written so far, by earlier runs with this log too."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float = 120.0) -> int:
        """Returns the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running:\n{self.output}") from None

    def signal_all(self, number: signal.Signals) -> None:
        """Sends a signal as a terminal does: to the whole process group."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kills the process and everything below it, as a lost machine does."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self.process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=30)
        self.process.wait()

    def wait_for(self, path: Path, text: str, timeout_s: float = 90.0) -> None:
        """Returns when a file holds a text."""
        deadline = time.monotonic() + timeout_s
        while not (path.exists() and text in path.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{path} never held {text!r}:\n{self.output}")
            time.sleep(0.02)


def run_to_end(line: Sequence[str], log: Path, timeout_s: float = 120.0) -> int:
    """Runs a command line and returns its exit code."""
    return Run(line, log).wait(timeout_s)


def read_result(folder: Path) -> dict[str, Any]:
    """Returns a run's `result.json`."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Returns the objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Returns the evaluation lines of a run without their times."""
    lines = read_lines(folder / "metrics.jsonl")
    return [
        {key: value for key, value in line.items() if key != "time"}
        for line in lines
        if line["split"] == "eval"
    ]


def train_losses(folder: Path) -> dict[int, float]:
    """Returns the training loss of each logged step, every step once."""
    lines = read_lines(folder / "metrics.jsonl")
    train = [line for line in lines if line["split"] == "train"]
    steps = [line["step"] for line in train]
    assert steps == sorted(set(steps)), "a step is logged twice or out of order"
    return {line["step"]: line["loss"] for line in train}
