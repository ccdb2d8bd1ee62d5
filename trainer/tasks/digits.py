"""A small convolutional network on scikit-learn's handwritten digits.

Owns the data set, its fixed split and the network; scikit-learn is imported when the
data is built, because it is an extra. Must never know ranks, devices or checkpoints.

Shape suffixes: B batch, N all samples, C channels, H height (8), W width (8).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import ConfigError, Fault
from trainer.task import DataSets, TrainTask
from trainer.tasks.parts import check_part, pair_of_names

NUM_CLASSES = 10

Images = tuple[Tensor, Tensor] | dict[str, Tensor]


class DigitsData:
    """One part of the 1797 digits: 8x8 images in [0, 1] and their labels, in memory.

    The split is stratified and always the same, whatever the run's seed.

    Args:
        part: `train` or `eval`.
        eval_fraction: share of each class's samples that is held out, in (0, 1).
        names: null gives samples (image, label); `[pixel_values, labels]` gives
            dictionaries with these keys, as transformers models take them.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: an argument breaks its rule.
    """

    def __init__(
        self,
        part: str = "train",
        *,
        eval_fraction: float = 0.2,
        names: Sequence[str] | None = None,
    ) -> None:
        check_part(part)
        self._names = pair_of_names(names)
        images_NHW, labels_N = _load()
        indices = _split(labels_N, eval_fraction)[part]
        self._images_NCHW = torch.from_numpy(images_NHW[indices]).unsqueeze(1)
        self._labels_N = torch.from_numpy(labels_N[indices])
        content = hashlib.sha256(self._images_NCHW.numpy().tobytes())
        content.update(self._labels_N.numpy().tobytes())
        self.fingerprint = f"digits:{part}:{content.hexdigest()}"

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, index: int, /) -> Images:
        return self._named(self._images_NCHW[index], self._labels_N[index])

    def __getitems__(self, indices: Sequence[int], /) -> Images:
        index_B = torch.as_tensor(indices)
        return self._named(self._images_NCHW[index_B], self._labels_N[index_B])

    def _named(self, images: Tensor, labels: Tensor) -> Images:
        if self._names is None:
            return images, labels
        return {self._names[0]: images, self._names[1]: labels}


class DigitsTask(TrainTask):
    """Ten-class classification of handwritten digits.

    Args:
        width: channels of the first convolution; the second has twice as many.
        dropout: probability of dropping a feature before the last layer, in [0, 1).
        eval_fraction: share of the samples that is held out, in (0, 1).

    Raises:
        ConfigError: an argument breaks its rule; names all of them.
    """

    metric_names = ("loss", "accuracy")

    def __init__(
        self, *, width: int = 32, dropout: float = 0.1, eval_fraction: float = 0.2
    ) -> None:
        faults = _faults(width, dropout, eval_fraction)
        if faults:
            raise ConfigError(faults)
        self._width = width
        self._dropout = dropout
        self._eval_fraction = eval_fraction

    def build_model(self) -> nn.Module:
        return _network(self._width, self._dropout)

    def build_datasets(self) -> DataSets:
        return DataSets(
            train=DigitsData("train", eval_fraction=self._eval_fraction),
            eval=DigitsData("eval", eval_fraction=self._eval_fraction),
        )

    def compute_loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        images_BCHW, labels_B = batch
        return functional.cross_entropy(model(images_BCHW), labels_B)

    def evaluate_batch(
        self, model: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> Mapping[str, Tensor | float]:
        images_BCHW, labels_B = batch
        logits_BK = model(images_BCHW)
        hits_B = logits_BK.argmax(dim=-1) == labels_B
        loss = functional.cross_entropy(logits_BK, labels_B)
        return {"loss": loss, "accuracy": hits_B.float().mean()}


def _network(width: int, dropout: float) -> nn.Module:
    # No batch normalisation: its running statistics would depend on how a global
    # batch is cut into micro-batches and ranks.
    return nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * 16, NUM_CLASSES),
    )


def _faults(width: int, dropout: float, eval_fraction: float) -> list[Fault]:
    rules = [
        ("width", width, width >= 1, "must be >= 1", 32),
        ("dropout", dropout, 0 <= dropout < 1, "must be in [0, 1)", 0.1),
        (
            "eval_fraction",
            eval_fraction,
            0 < eval_fraction < 1,
            "must be between 0 and 1, because a part without samples teaches nothing",
            0.2,
        ),
    ]
    return [
        Fault(f"task.{key}", value, rule, f"set task.{key}={remedy}")
        for key, value, holds, rule, remedy in rules
        if not holds
    ]


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as err:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed; "
            "run: pip install 'perennial[examples]'",
            name=err.name,
        ) from err
    digits = load_digits()
    images_NHW = (digits.images / 16.0).astype(np.float32)
    return images_NHW, digits.target.astype(np.int64)


def _split(labels_N: np.ndarray, eval_fraction: float) -> dict[str, np.ndarray]:
    # The digits are sorted by writer; without a shuffle a part would miss some hands.
    # RandomState's stream is frozen by NumPy's policy (NEP 19), Generator's is not.
    random = np.random.RandomState(0)
    is_held_out_N = np.zeros(len(labels_N), dtype=bool)
    for label in range(NUM_CLASSES):
        members = random.permutation(np.flatnonzero(labels_N == label))
        num_held_out = round(eval_fraction * len(members))
        is_held_out_N[members[:num_held_out]] = True
    parts = {
        "train": np.flatnonzero(~is_held_out_N),
        "eval": np.flatnonzero(is_held_out_N),
    }
    if not all(map(len, parts.values())):
        raise ValueError(
            f"eval_fraction={eval_fraction}: must leave samples in both parts of the "
            f"{len(labels_N)} digits; set eval_fraction=0.2"
        )
    return parts
