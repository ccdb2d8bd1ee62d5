"""What a test may not leave behind, and how it is found and cleared away.

Owns the comparison of the process's surroundings before and after a test. Must never
import torch or Ray: it looks at them only if the test has imported them.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# Processes that outlive their parent are no longer its children, but they have
# inherited this variable.
MARK = "PERENNIAL_TEST_SESSION"

# What a library leaves in a process by design, once, and why it is harmless.
ENVIRONMENT_ALLOWED = {
    "PYTEST_CURRENT_TEST": "pytest sets it around each phase of a test",
    "KMP_DUPLICATE_LIB_OK": "scikit-learn sets it when it is imported",
    "KMP_INIT_AT_FORK": "scikit-learn sets it when it is imported",
    "CRC32C_SW_MODE": "tensorboardX sets it when it is imported",
    "RAY_CLIENT_MODE": "ray sets it when it is imported",
    "PYTHONBREAKPOINT": "ray.init sets it, and ray.shutdown leaves it",
    "RAY_AUTH_MODE": "ray.init sets it, and ray.shutdown leaves it",
    "RAY_USAGE_STATS_ENABLED": "ray.init sets it, and ray.shutdown leaves it",
    "TORCHINDUCTOR_CACHE_DIR": "torch sets it when it first compiles",
    "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR": "torch sets it when it compiles",
    "_MLFLOW_TELEMETRY_SESSION_ID": "mlflow sets it when it is imported",
}
THREADS_ALLOWED = {
    r"fsspecIO": "fsspec's one event loop, a daemon for the life of the process",
    r"asyncio_\d+": "the executor of fsspec's event loop",
    r"pytest_timeout .*": "pytest-timeout's timer",
}
PROCESSES_ALLOWED = {
    "multiprocessing.forkserver": "one for the life of the process",
    "multiprocessing.resource_tracker": "one for the life of the process",
}

_GRACE_S = 3.0  # for threads and processes that are already on their way out
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What stood around a test before it began."""

    environment: dict[str, str]
    threads: frozenset[threading.Thread]
    processes: frozenset[psutil.Process]
    handlers: dict[signal.Signals, Any]
    working_dir: Path


def mark_session() -> None:
    """Marks this process and all that it starts, so that orphans are found."""
    os.environ[MARK] = uuid.uuid4().hex


def look_around() -> Surroundings:
    """Returns what is there now."""
    return Surroundings(
        environment=dict(os.environ),
        threads=frozenset(threading.enumerate()),
        processes=_processes(),
        handlers={number: signal.getsignal(number) for number in _SIGNALS},
        working_dir=Path.cwd(),
    )


def clear_leaks(before: Surroundings) -> list[str]:
    """Returns one line for each thing left behind since `before`, and clears it away.

    Threads cannot be cleared away; everything else is as it was afterwards.
    """
    return [
        *_clear_ray(),
        *_clear_process_group(),
        *_clear_processes(before),
        *_find_threads(before),
        *_clear_environment(before),
        *_clear_handlers(before),
        *_clear_working_dir(before),
    ]


def _clear_ray() -> list[str]:
    ray = sys.modules.get("ray")
    if ray is None or not hasattr(ray, "is_initialized") or not ray.is_initialized():
        return []
    ray.shutdown()
    return ["an initialised Ray: call ray.shutdown()"]


def _clear_process_group() -> list[str]:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available():
        return []
    if not distributed.is_initialized():
        return []
    distributed.destroy_process_group()
    return ["a torch process group: call torch.distributed.destroy_process_group()"]


def _clear_processes(before: Surroundings) -> list[str]:
    _wait_until(lambda: not _new_processes(before))
    left = _new_processes(before)
    lines = [f"the process {_describe(process)}: stop it and wait" for process in left]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=_GRACE_S)
    return lines


def _new_processes(before: Surroundings) -> list[psutil.Process]:
    new = _processes() - before.processes
    return [process for process in new if not _is_allowed(process)]


def _processes() -> frozenset[psutil.Process]:
    mark = os.environ.get(MARK)
    found = set(psutil.Process().children(recursive=True))
    for process in psutil.process_iter():
        try:
            if mark is not None and process.environ().get(MARK) == mark:
                found.add(process)
        except psutil.Error:  # gone meanwhile, a zombie, or another user's
            continue
    return frozenset(found) - {psutil.Process()}


def _is_allowed(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return bool(process.ppid() != os.getpid())  # ours to wait for, or not
    except psutil.NoSuchProcess:
        return True
    return any(name in command for name in PROCESSES_ALLOWED)


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline())[:120]})"
    except psutil.Error:
        return f"{process.pid} (ended, but nobody waited for it)"


def _find_threads(before: Surroundings) -> list[str]:
    _wait_until(lambda: not _new_threads(before))
    return [
        f"the thread {thread.name!r}{' (daemon)' if thread.daemon else ''}: join it"
        for thread in _new_threads(before)
    ]


def _new_threads(before: Surroundings) -> list[threading.Thread]:
    new = set(threading.enumerate()) - before.threads
    allowed = re.compile("|".join(THREADS_ALLOWED))
    return [thread for thread in new if not allowed.fullmatch(thread.name)]


def _clear_environment(before: Surroundings) -> list[str]:
    now, then = dict(os.environ), before.environment
    changed = {
        name
        for name in now.keys() | then.keys()
        if now.get(name) != then.get(name) and name not in ENVIRONMENT_ALLOWED
    }
    for name in changed:
        if name in then:
            os.environ[name] = then[name]
        else:
            del os.environ[name]
    return [
        f"the environment variable {name}={now.get(name)!r}, before: {then.get(name)!r}"
        for name in sorted(changed)
    ]


def _clear_handlers(before: Surroundings) -> list[str]:
    lines = []
    for number, handler in before.handlers.items():
        if signal.getsignal(number) != handler:
            lines.append(f"a handler of {number.name}: put the former one back")
            signal.signal(number, handler)
    return lines


def _clear_working_dir(before: Surroundings) -> list[str]:
    now = Path.cwd()
    if now == before.working_dir:
        return []
    os.chdir(before.working_dir)
    return [f"the working directory {now}: use monkeypatch.chdir"]


def _wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _GRACE_S
    while not is_done() and time.monotonic() < deadline:
        time.sleep(0.02)
