"""`python -m tests.benchmarks [name ...]`: prints the figures of README.md anew."""

from __future__ import annotations

import argparse
import os
import platform
import sys

import torch
from rich.console import Console

from tests.benchmarks.loop import bench_cost, bench_speed
from tests.benchmarks.startup import bench_startup

BENCHMARKS = {"speed": bench_speed, "cost": bench_cost, "startup": bench_startup}
_NAMES = ", ".join(BENCHMARKS)
_WIDTH = 80


def main(words: list[str] | None = None) -> int:
    """Runs the named benchmarks, all by default, and returns the exit code.

    Args:
        words: the command line; that of this process by default.
    """
    parser = argparse.ArgumentParser("python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {_NAMES}")
    names = parser.parse_args(words).names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]}: there is no such benchmark; type some of {_NAMES}")
    console = Console(width=_WIDTH, highlight=False)
    console.print(_machine())
    for name in names:
        console.print()
        for part in BENCHMARKS[name]():
            console.print(part)
    return 0


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, {gpu}, "
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}\n"
        f"Python {platform.python_version()}, torch {torch.__version__}, one thread"
    )


if __name__ == "__main__":
    sys.exit(main())
