"""What happens to old, unfinished and damaged steps, always after a commit or restore.

Owns that a fault here is logged and never raised: the state is safe already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from checkpoints.catalog import Catalog
from checkpoints.choices import Mode
from checkpoints.errors import CheckpointError
from checkpoints.manifest import CheckpointInfo
from checkpoints.policies import best_steps, steps_to_keep

_log = logging.getLogger(__name__)


class Housekeeper:
    """Applies one run's rules of what stays; only rank 0 may change anything."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        keep_latest: int,
        keep_best: int,
        metric: str | None,
        mode: Mode,
        sweep_after_s: float,
    ) -> None:
        self._catalog = catalog
        self._keep_latest = keep_latest
        self._keep_best = keep_best if metric is not None else 0
        self._metric = metric
        self._mode = mode
        self._sweep_after_s = sweep_after_s

    def best(self, infos: Sequence[CheckpointInfo]) -> CheckpointInfo | None:
        """Returns the best of some checkpoints, None when none has the metric."""
        by_step = {info.step: info for info in infos}
        steps = best_steps(self._metrics(infos), self._mode)
        return by_step[steps[0]] if steps else None

    def after_save(self) -> None:
        """Deletes what need not stay, and what was never finished."""
        self._try(self._apply_retention)
        self._try(self._sweep)

    def after_restore(
        self, *, unfinished: Sequence[int], damaged: Sequence[int]
    ) -> None:
        """Names unfinished steps, frees damaged ones, deletes what is old."""
        for step in unfinished:
            url = self._catalog.folder(step).url
            _log.warning("checkpoint skipped: %s: unfinished, it has no manifest", url)
        for step in damaged:
            self._try(partial(self._catalog.set_aside, step))
        self._try(self._sweep)

    def _apply_retention(self) -> None:
        metrics = self._metrics(self._catalog.known_infos())
        keep = steps_to_keep(
            metrics,
            keep_latest=self._keep_latest,
            keep_best=self._keep_best,
            mode=self._mode,
        )
        self._catalog.remove(metrics.keys() - keep)

    def _sweep(self) -> None:
        self._catalog.sweep(self._sweep_after_s)

    def _metrics(self, infos: Sequence[CheckpointInfo]) -> dict[int, float | None]:
        name = self._metric
        return {i.step: i.metrics.get(name) if name else None for i in infos}

    def _try(self, action: Callable[[], None]) -> None:
        # What stays behind is tried again after the next save.
        try:
            action()
        except CheckpointError as err:
            _log.warning("old checkpoints could not be tidied up: %s", err)
