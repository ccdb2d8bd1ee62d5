"""What a run was made from: code, packages, machine and command."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from typing import Any

_MAX_DIFF_BYTES = 1_000_000
_GIT_TIMEOUT_S = 10.0


def collect(words: Sequence[str]) -> dict[str, Any]:
    """Returns the facts for `provenance.json`.

    Args:
        words: the overrides of the command line, without secrets.
    """
    diff = _git("diff", "HEAD")
    return {
        "command": [*(word for word in sys.orig_argv if "=" not in word), *words],
        "working_dir": os.getcwd(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_diff": diff and diff[:_MAX_DIFF_BYTES],
        "python": sys.version,
        "packages": dict(sorted(_packages())),
        "hardware": hardware(),
    }


def _packages() -> Iterator[tuple[str, str]]:
    for distribution in distributions():
        # An interrupted installation leaves a folder without metadata.
        if distribution.read_text("METADATA") or distribution.read_text("PKG-INFO"):
            yield distribution.metadata["Name"], distribution.version


def hardware() -> dict[str, Any]:
    """Returns this machine's name, processors, memory and GPUs."""
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": names,
    }


def _git(*words: str) -> str | None:
    """Returns git's answer about the working folder, None outside a repository."""
    try:
        answer = subprocess.run(
            ["git", *words],
            capture_output=True,
            check=True,
            # A diff holds files of any encoding.
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
