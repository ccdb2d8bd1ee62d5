"""A run's folder: its files' names, how each is written, and who may write.

Only rank 0, or the driver while no rank lives, writes here. Knows files and JSON,
nothing of training.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from checkpoints import Storage, open_storage
from trainer.errors import RunLocked

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
SAMPLES = "samples.jsonl"
RESULT = "result.json"
RECORD_KEYS = ("step", "epoch", "samples", "time", "split")  # of a line of metrics
_LOCK = "run.lock"
_LOCK_WAIT_S = 15.0  # a killed run's last process may outlive it by some seconds
_UPLOAD_INTERVAL_S = 10.0

Record = dict[str, Any]


class JsonLines:
    """A file of one JSON object a line, written in order and readable at any moment.

    On local disk each line is appended; elsewhere, where nothing can be appended to,
    the whole object is written again at `flush` and at most every ten seconds.

    Args:
        storage: the run's folder.
        name: the file's name in it.
        keep: which of the lines that are there stay; the others are removed.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        *,
        keep: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        self._storage = storage
        self._name = name
        present = read_json_lines(storage, name)
        kept = [record for record in present if keep(record)]
        self._lines = [_to_line(record) for record in kept]
        if storage.local_dir is not None or len(kept) < len(present):
            # Also ends a line that a killed process had only half written.
            storage.write_bytes(name, b"".join(self._lines))
        self._file = (
            (storage.local_dir / name).open("ab") if storage.local_dir else None
        )
        self._uploaded_at = time.monotonic()
        self._is_dirty = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one line."""
        line = _to_line(record)
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
            return
        self._lines.append(line)
        self._is_dirty = True
        if time.monotonic() - self._uploaded_at > _UPLOAD_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Makes all lines durable."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        elif self._is_dirty:
            self._storage.write_bytes(self._name, b"".join(self._lines))
            self._is_dirty = False
            self._uploaded_at = time.monotonic()

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        if self._file is not None:
            self._file.close()


def _to_line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def read_json_lines(storage: Storage, name: str) -> list[Record]:
    """Returns a file's objects, without a last line that is incomplete."""
    if not storage.exists(name):
        return []
    lines = storage.read_bytes(name).split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line]


class RunFolder:
    """`<storage_url>/<name>/` and what it holds besides checkpoints.

    Args:
        storage_url: any fsspec URL.
        name: the run's name.
        storage_options: passed to fsspec.
    """

    def __init__(
        self, storage_url: str, name: str, storage_options: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.storage = open_storage(storage_url, storage_options).child(name)
        self._lock: Any = None

    @property
    def url(self) -> str:
        return self.storage.url

    @property
    def local_dir(self) -> Path | None:
        return self.storage.local_dir

    def read_json(self, name: str) -> Record | None:
        """Returns a JSON file's object, None when there is no such file."""
        if not self.storage.exists(name):
            return None
        record: Record = json.loads(self.storage.read_bytes(name))
        return record

    def write_json(self, name: str, record: Mapping[str, Any]) -> None:
        """Writes a JSON file for people and programs, replacing one that is there."""
        self.storage.write_bytes(name, json.dumps(record, indent=2).encode() + b"\n")

    def read_yaml(self, name: str) -> Any:
        """Returns a YAML file's content, None when there is no such file."""
        if not self.storage.exists(name):
            return None
        return yaml.safe_load(self.storage.read_bytes(name))

    def write_yaml(self, name: str, content: object) -> None:
        """Writes a YAML file in the order of its keys."""
        text = yaml.safe_dump(content, sort_keys=False)
        self.storage.write_bytes(name, text.encode())

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, replacing one that is there."""
        self.storage.write_bytes(name, text.encode())

    def has_checkpoint(self) -> bool:
        """Returns whether a checkpoint was ever committed here."""
        return any(
            self.storage.exists(f"checkpoints/{step}/manifest.json")
            for step in self.storage.list("checkpoints")
        )

    def events(self) -> list[Record]:
        """Returns all events so far, oldest first."""
        return read_json_lines(self.storage, EVENTS)

    def add_event(self, event: str, **facts: Any) -> None:
        """Appends one event, durable when this returns.

        For the one process that writes while no `EventLog` is open.
        """
        log = EventLog(self)
        log.add(event, **facts)
        log.close()

    def lock(self) -> None:
        """Claims the folder until this process ends, however it ends.

        On local disk only: object stores have no lock that a killed process gives
        back; there, checkpoints are still committed by one writer alone.

        Raises:
            RunLocked: another process has it, and keeps it for some seconds.
        """
        if self.local_dir is None:
            return
        self.local_dir.mkdir(parents=True, exist_ok=True)
        # A record lock: unlike flock, loader processes do not inherit it.
        self._lock = (self.local_dir / _LOCK).open("a+")
        deadline = time.monotonic() + _LOCK_WAIT_S
        while not self._try_lock():
            if time.monotonic() > deadline:
                self._lock.seek(0)
                owner = self._lock.read().strip()
                self.unlock()
                raise RunLocked(
                    f"{self.url} is being trained by {owner}: one run has one process "
                    "at a time; wait for it, stop it, or give another name="
                )
            time.sleep(0.2)
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()

    def _try_lock(self) -> bool:
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class EventLog:
    """`events.jsonl` open for appending; each event is durable when `add` returns."""

    def __init__(self, folder: RunFolder) -> None:
        self._file = JsonLines(folder.storage, EVENTS)

    def add(self, event: str, **facts: Any) -> None:
        """Appends one event and its facts."""
        self._file.append({"time": time.time(), "event": event, **facts})
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
