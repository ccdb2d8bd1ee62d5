"""Means over samples and ranks: exact sums in float64, one exchange when asked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.distributed import Distributed


class WeightedMeans:
    """Collects each metric's mean over some samples; gives the mean over all of them.

    Values stay on their device until `compute`, so that collecting never waits.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._counts: list[int] = []

    def add(self, means: Mapping[str, Tensor | float], count: int) -> None:
        """Adds the means of one batch of `count` samples.

        Raises:
            ValueError: the names differ from those of the batches before.
        """
        if self._counts and means.keys() != self._values.keys():
            raise ValueError(
                f"evaluate_batch returned {sorted(means)}, before "
                f"{sorted(self._values)}: every batch must have the same metrics"
            )
        self._counts.append(count)
        for name, value in means.items():
            values = self._values.setdefault(name, [])
            values.append(_as_scalar(value))

    def compute(
        self, distributed: Distributed, names: list[str] | None = None
    ) -> dict[str, float]:
        """Returns the means over all samples of all ranks. All ranks must call this.

        Args:
            distributed: the ranks.
            names: metrics by rank 0's order, for a rank that may have had no samples.
        """
        if names is None:
            known = list(self._values)
            gathered = distributed.gather(known)
            found = next((k for k in gathered or [] if k), [])
            names = list(distributed.broadcast(found))  # type: ignore[call-overload]  # a list of names
        totals = [float(sum(self._counts)), *(self._total(name) for name in names)]
        # Plain numbers, because a call of torch costs more than adding them up.
        sums = distributed.sum(torch.tensor(totals, dtype=torch.float64)).tolist()
        num_samples = sums[0]
        return {
            name: total / num_samples
            for name, total in zip(names, sums[1:], strict=True)
        }

    def _total(self, name: str) -> float:
        if not self._counts:
            return 0.0
        values: list[float] = torch.stack(self._values[name]).double().tolist()
        return sum(v * n for v, n in zip(values, self._counts, strict=True))


def _as_scalar(value: Tensor | float) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().reshape(())
    return torch.tensor(value, dtype=torch.float64)  # by default it would lose digits
