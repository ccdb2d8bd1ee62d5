"""`SaveHandle`: what a caller holds of one save. Must never know how it is done."""

from __future__ import annotations

from checkpoints.errors import CheckpointError
from checkpoints.manifest import CheckpointInfo


class SaveHandle:
    """The outcome of one `save`, the same on every rank."""

    def __init__(
        self, info: CheckpointInfo | None, error: CheckpointError | None
    ) -> None:
        self._info = info
        self._error = error
        self._is_reported = False

    def done(self) -> bool:
        """Returns whether the save has ended, well or not."""
        return True

    def wait(self, timeout_s: float | None = None) -> CheckpointInfo:
        """Returns the checkpoint once it is durable.

        Args:
            timeout_s: Longest time to wait in seconds; None waits until the end.

        Raises:
            CheckpointError: What went wrong; nothing was committed then.
        """
        if self._error is not None:
            self._is_reported = True
            raise self._error
        assert self._info is not None
        return self._info

    def raise_unreported(self) -> None:
        """Raises the save's error unless `wait` has raised it before."""
        if not self._is_reported:
            self.wait()
