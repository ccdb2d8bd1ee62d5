"""Samples for language models: windows of bytes from a prepared corpus.

Owns how a corpus is cut into samples and parts, and reading them; preparing the corpus
is `corpus_file`'s. Must never know models, ranks or where the files came from.

Shape suffixes: B batch, N all windows of a part, T context length, S = T + 1 bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.tasks.corpus_file import Corpus, prepare_corpus
from trainer.tasks.parts import check_part, pair_of_names

Sample = tuple[Tensor, Tensor] | dict[str, Tensor]


class CorpusData:
    """One part of a corpus, cut into windows of context_length + 1 bytes.

    The windows do not overlap; the last `eval_fraction` of them are held out. A sample
    is (the first context_length bytes, the byte after each of them), int64.

    Args:
        part: `train` or `eval`.
        files: a glob, local or an fsspec URL; null: the standard library's source.
        files_options: fsspec options.
        cache_dir: folder of prepared corpora; null: `~/.cache/perennial`.
        context_length: bytes that a sample's input spans, at least 1.
        eval_fraction: share of the windows that is held out, in (0, 1).
        names: null gives (inputs, targets); `[input_ids, labels]` gives dictionaries
            with these keys and the *same* bytes under both, for models that shift the
            targets themselves, as the causal models of transformers do.

    Raises:
        ValueError: an argument breaks its rule, nothing matches, or the corpus is too
            short for one sample in each part.
    """

    def __init__(
        self,
        part: str = "train",
        *,
        files: str | None = None,
        files_options: Mapping[str, object] | None = None,
        cache_dir: str | None = None,
        context_length: int = 128,
        eval_fraction: float = 0.05,
        names: Sequence[str] | None = None,
    ) -> None:
        check_part(part)
        _check(context_length, eval_fraction)
        self._names = pair_of_names(names)
        self._context_length = context_length
        self._eval_fraction = eval_fraction
        self._corpus = prepare_corpus(
            files, files_options=files_options, cache_dir=cache_dir
        )
        self._take(part)

    def part(self, part: str) -> CorpusData:
        """Returns the given part of the same corpus, without preparing it again."""
        check_part(part)
        other = copy.copy(self)
        other._take(part)
        return other

    def __len__(self) -> int:
        return len(self._windows_NS)

    def __getitem__(self, index: int, /) -> Sample:
        return self._sample(self._windows_NS[index])

    def __getitems__(self, indices: Sequence[int], /) -> Sample:
        return self._sample(self._windows_NS[np.asarray(indices)])

    def __getstate__(self) -> dict[str, object]:
        # A loader process maps the file again; the bytes do not travel.
        state = self.__dict__.copy()
        del state["_windows_NS"]
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._take(self._part)

    def _take(self, part: str) -> None:
        self._part = part
        size = self._context_length + 1
        first, last = _windows(self._corpus, size, self._eval_fraction)[part]
        bytes_ = np.memmap(self._corpus.path, dtype=np.uint8, mode="r")
        # A plain view: numpy's memmap class costs microseconds at every read.
        self._windows_NS: NDArray[np.uint8] = bytes_[first * size : last * size].view(
            np.ndarray
        )
        self._windows_NS = self._windows_NS.reshape(-1, size)
        self.fingerprint = f"corpus:{part}:{self._corpus.sha256}:{size}:{first}-{last}"

    def _sample(self, windows: NDArray[np.uint8]) -> Sample:
        # `windows` is S for one sample and BS for a batch.
        inputs = _tokens(windows[..., :-1])
        if self._names is None:
            return inputs, _tokens(windows[..., 1:])
        return {self._names[0]: inputs, self._names[1]: inputs.clone()}


def _tokens(bytes_: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(bytes_.astype(np.int64))


def _check(context_length: int, eval_fraction: float) -> None:
    if context_length < 1:
        raise ValueError(
            f"context_length={context_length}: must be >= 1 byte; "
            "set context_length=128"
        )
    if not 0 < eval_fraction < 1:
        raise ValueError(
            f"eval_fraction={eval_fraction}: must be between 0 and 1; "
            "set eval_fraction=0.05"
        )


def _windows(
    corpus: Corpus, size: int, eval_fraction: float
) -> dict[str, tuple[int, int]]:
    """Returns the first window of each part and the one after its last."""
    num_windows = corpus.num_bytes // size
    if num_windows < 2:
        raise ValueError(
            f"files: {corpus.num_bytes} bytes in {corpus.num_files} files: must hold a "
            f"sample of context_length + 1 = {size} bytes for each of two parts; "
            "give more text (task.files) or set a smaller context_length"
        )
    num_held_out = min(max(1, round(eval_fraction * num_windows)), num_windows - 1)
    first_held_out = num_windows - num_held_out
    return {"train": (0, first_held_out), "eval": (first_held_out, num_windows)}
