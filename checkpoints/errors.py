"""The errors of `checkpoints`.

CheckpointError      a state that cannot be saved, a second writer, a closed manager
├── NotFound         the step, file or folder asked for is not there
├── Incomplete       a committed step misses bytes: a file is gone or has another size
├── Corrupt          bytes are there but are not those that were written
├── Mismatch         what was saved does not fit the state that it should go into
└── StorageError     the storage refused, failed or could not be reached

Each takes one message and nothing else, so all of them cross process borders.
"""

from __future__ import annotations


class CheckpointError(Exception):
    """Base of every error that this package raises on purpose."""


class NotFound(CheckpointError):
    """Raised when the step, file or folder asked for is not there."""


class Incomplete(CheckpointError):
    """Raised when a committed step misses a file or a part of one."""


class Corrupt(CheckpointError):
    """Raised when a checksum or a format rule shows that bytes have changed."""


class Mismatch(CheckpointError):
    """Raised when a saved state does not fit the state it should be put into."""


class StorageError(CheckpointError):
    """Raised when the storage refuses, fails or cannot be reached."""
