"""What a run was made from: code, packages, machine and command."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
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
        "packages": dict(
            sorted((d.metadata["Name"], d.version) for d in distributions())
        ),
        "hardware": hardware(),
    }


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
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
